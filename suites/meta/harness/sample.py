"""What the documents show of a run: its output without what pytest itself says, and without what differs each time."""

import re

OWN = ("stack: ", "machine: ", "device: ", "this CPU ", "accepted values ")
RULE = re.compile(r"^[=_-]+ (.*?) [=_-]+$")  # the heading of a section
SHOWN = ("FAILURES", "test_", "verdicts")  # sections, by how their headings begin
VOLATILE = (  # in the output -> in the sample
    (r" -p \S+| --(?:plant|junitxml|results|baselines)=\S+", ""),  # what makes it a sample
    (r"^machine: \S+", "machine: my-cpu"),
    (r" (?:\d+m )?[\d.]+(?:us|ms|s)$", ""),
    (r" '(?=[^'\n]*'; allowed no special token)[^'\n]*'", " 'a text'"),  # what a model of chance weights says
)


def sample_of(output):
    """The first screen, the tests, the failures and the summary of a run's output."""
    kept, section = [], "head"
    for line in output.splitlines():
        heading = RULE.match(line)
        if heading:
            section = heading[1]
        if section == "test session starts":
            if line.startswith((*OWN, "suites/")):
                kept.append(line)
        elif section.startswith(SHOWN):
            kept.append(line)
    text = "\n".join(kept)
    for rule, instead in VOLATILE:
        text = re.sub(rule, instead, text, flags=re.MULTILINE)
    return text.strip() + "\n"


def shape_of(sample):
    """A sample without its numbers, which differ from machine to machine."""
    return re.sub(r"\d+(?:\.\d+)*(?:e[+-]?\d+)?", "#", re.sub(r"[+-](?=\d)", "", sample))
