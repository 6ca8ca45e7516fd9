"""Proves that the comparison can fail: the reference with one deliberate mistake must differ, and without one must agree."""
import run

# The mistake, the case it is made in, and words that the difference must contain.
MISTAKES = [
    ("request", "offset_since", "request, only the reference"),
    ("missing", "offset_since", "record of orders, only the reference"),
    ("record", "offset_since", "record of orders, only ours"),
    ("type", "offset_since", "record of orders, only ours"),
    ("order", "offset_since", "another order within"),
    ("state", "offset_since", "last state of orders"),
    ("error", "fail_by_status", "errors of stream"),
]


def found_by(ours, name):
    """Whether the case agrees, and what would be printed."""
    return run.check(next(iter(run.all_cases([name]))), ours)


def main():
    failures = []
    # Once the way our side is run: as a command that is told where origins lead.
    as_command = " ".join(run.REFERENCE)
    for ours, name in [("reference", "offset_since"), ("reference", "fail_by_status"), (as_command, "auth_simple")]:
        agree, text = found_by(ours, name)
        if not agree:
            failures.append(f"{name} does not agree with itself:\n{text}")
    for mistake, name, words in MISTAKES:
        agree, text = found_by(f"reference --wrong {mistake}", name)
        caught = not agree and words in text
        print(f"{'ok  ' if caught else 'MISS'} the mistake '{mistake}' is caught in {name}")
        if not caught:
            failures.append(f"the mistake '{mistake}' in {name} was not caught:\n{text}")
    print("\n".join(failures) or "the comparison can fail, and says why")
    return 1 if failures else 0
