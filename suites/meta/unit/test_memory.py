"""What a cell needs of a device's memory, and what is done where that is not there."""

import pytest

from fixtures.matrix import load_matrix
from fixtures.matrix.linears import parameters_of

MODELS = {model.id: model for model in load_matrix().models}


@pytest.mark.parametrize(("model", "published"), [
    ("llama-2-7b", 6_738_415_616),
    ("llama-2-13b", 13_015_864_320),
    ("llama-2-70b", 68_976_648_192),
    ("llama-3-8b", 8_030_261_248),
    ("llama-3.2-1b", 1_235_814_400),
    ("phi-3-mini-4k", 3_821_079_552),
    ("mistral-7b", 7_241_732_096),
    ("gpt-j-6b", 6_050_882_784),
    ("qwen2-7b", 7_615_616_512),
    ("qwen3-4b", 4_022_468_096),
    ("opt-6.7b", 6_658_473_984),
    ("bloom-7b1", 7_069_016_064),
    ("glm-4-9b", 9_399_951_360),
    ("baichuan2-13b", 13_896_668_160),
    ("smollm2-135m", 134_515_008),
])  # fmt: skip
def test_parameters_are_the_published_number_to_the_last_one(model, published):
    assert parameters_of(MODELS[model], MODELS[model].geometry) == published
