"""Checkpoint folders that would run something: each writes a canary file, if anybody reads it the wrong way."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

from fixtures.weights.inspection import INDEX
from suites.meta.harness import sound_files

LEAVES = "code that leaves the canary"


class Payload:
    """Unpickling it makes a file."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


def _pickled(canary):
    return pickle.dumps(Payload(canary), protocol=2)


def _zipped(path, canary):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", _pickled(canary))
        archive.writestr("archive/version", "3\n")


def module(folder, canary, name="modeling_x.py"):
    (folder / name).write_text(f'"""{LEAVES}"""\nopen({str(canary)!r}, "w")\n\n\nclass X: ...\n')


def _entries(folder, name, **more):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def pickle_beside_good_weights(folder, canary):
    (folder / "pytorch_model.bin").write_bytes(_pickled(canary))


def zipped_pickle(folder, canary):
    _zipped(folder / "consolidated.00.pt", canary)


def what_training_left(folder, canary):
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "training_args.BIN").write_bytes(_pickled(canary))


def pickle_as_safetensors(folder, canary):
    for path in (folder / INDEX, *folder.glob("*.safetensors")):
        path.unlink()
    (folder / "model.safetensors").write_bytes(_pickled(canary))


def zip_as_tokenizer(folder, canary):
    _zipped(folder / "tokenizer.model", canary)


def index_that_leaves(folder, canary):
    (folder.parent / "weights.safetensors").write_bytes(_pickled(canary))
    _entries(folder, INDEX, weight_map={"a.weight": "../weights.safetensors"})


def index_that_names_a_pickle(folder, canary):
    (folder / "weights.dat").write_bytes(b"\n" + _pickled(canary))
    _entries(folder, INDEX, weight_map={"a.weight": "weights.dat"})


def link_that_leaves(folder, canary):
    out = folder.parent.parent / f"{folder.name}-elsewhere"
    (folder / "generation_config.json").rename(out)
    (folder / "generation_config.json").symlink_to(out)


def huge_header(folder, canary):
    path = sorted(folder.glob("*.safetensors"))[0]
    path.write_bytes(struct.pack("<Q", 2**60) + path.read_bytes()[8:])


def adapter(folder, canary):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(folder.parent)}))


def code_in_config(folder, canary):
    module(folder, canary)
    _entries(folder, "config.json", auto_map={"AutoConfig": "modeling_x.X", "AutoModelForCausalLM": "modeling_x.X"})


def code_in_tokenizer(folder, canary):
    module(folder, canary)
    _entries(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling_x.X", None]})


def code_of_another_repository(folder, canary):
    _entries(folder, "config.json", auto_map={"AutoConfig": "someone/else--modeling_x.X"})


def code_that_nothing_names(folder, canary):
    module(folder, canary)


# How a folder is spoiled -> what its sentence has to say.
REFUSED = {
    pickle_beside_good_weights: ["pytorch_model.bin may hold a pickle", "move pytorch_model.bin out of the folder"],
    zipped_pickle: ["consolidated.00.pt may hold a pickle"],
    what_training_left: ["training_args.BIN may hold a pickle", "what training left behind"],
    pickle_as_safetensors: ["model.safetensors is a pickle under another name"],
    zip_as_tokenizer: ["tokenizer.model is a zip archive under another name"],
    index_that_leaves: [INDEX, "names '../weights.safetensors', a path outside the folder"],
    index_that_names_a_pickle: [INDEX, "names 'weights.dat', which is no *.safetensors"],
    link_that_leaves: ["generation_config.json is a link out of the folder"],
    huge_header: ["model-00001-of-00002.safetensors claims a header of 1152921504606846976 bytes"],
    adapter: ["adapter_config.json sends the loader to another checkpoint"],
    code_in_config: ["config.json names 'modeling_x.X'", "--allow-remote-code"],
    code_in_tokenizer: ["tokenizer_config.json names 'modeling_x.X'", "--allow-remote-code"],
    code_of_another_repository: ["config.json names 'someone/else--modeling_x.X'", "--allow-remote-code"],
    code_that_nothing_names: ["modeling_x.py", "--allow-remote-code"],
}


def make(root, model, spoil, canary):
    """A checkpoint of `model` below `root`, sound but for what `spoil` does to it."""
    folder = Path(root) / model.id
    folder.mkdir(parents=True)
    sound_files.checkpoint(folder, model)
    if spoil is not None:
        spoil(folder, canary)
    return folder
