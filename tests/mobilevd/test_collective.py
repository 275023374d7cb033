"""Work of several processes together: shares and results in order, and an error in one that ends all, without a hang."""

import json
from typing import Any

import pytest
from accelerate import PartialState

from mobilevd.collective import from_first, gather, in_rounds, together
from mobilevd.errors import ToldByAnother, UserError
from tests.launch import launch_script

PROCESSES = 3
SCRIPT = """
import json, sys, torch
from pathlib import Path
from accelerate import PartialState
from tests.mobilevd.test_collective import exercise
state = PartialState(cpu=True)
Path(sys.argv[1], f"rank{state.process_index}.json").write_text(json.dumps(exercise(state)))
torch.distributed.destroy_process_group()
"""


def exercise(state: PartialState) -> dict[str, Any]:
    """What every process of a launch sees of everything that is done together."""
    rank = state.process_index
    worked: list[int] = []
    progress: list[int] = []

    def work(number: int) -> int:
        worked.append(number)
        return number * number

    def fails_at_three(number: int) -> int:
        if number == 3:
            raise UserError("clip three is damaged")
        worked.append(number)
        return number

    def bug_in_one() -> None:
        if rank == 1:
            raise ZeroDivisionError("by\nzero")

    def bad_input() -> None:
        raise UserError("no such folder")

    found: dict[str, Any] = {
        "gathered": gather(state, {"rank": rank}),
        "rounds": in_rounds(state, 7, work, progress.append),
        "worked": list(worked),
        "progress": progress,
        "first": from_first(state, lambda: "of the first" if rank == 0 else pytest.fail("not the first")),
        "together": together(state, lambda: rank),
    }
    worked.clear()
    for name, attempt in {
        "in a round": lambda: in_rounds(state, 9, fails_at_three),
        "a bug": lambda: together(state, bug_in_one),
        "in all": lambda: together(state, bad_input),
    }.items():
        try:
            attempt()
        except Exception as error:
            found[name] = [type(error).__name__, str(error)]
    found["worked before the error"] = worked
    found["still talking"] = gather(state, rank)
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("together")
    launch_script(folder, SCRIPT, folder, processes=PROCESSES)
    return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(PROCESSES)]


def test_everyone_has_the_results_of_all_in_order(seen: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(seen):
        assert found["gathered"] == [{"rank": each} for each in range(PROCESSES)]
        assert found["rounds"] == [number * number for number in range(7)]
        assert found["worked"] == list(range(rank, 7, PROCESSES)), "each piece is made once"
        assert found["progress"] == [3, 6, 7] and found["first"] == "of the first" and found["together"] == rank


def test_an_error_in_one_ends_all_within_a_round_and_is_told_once(seen: list[dict[str, Any]]) -> None:
    assert seen[0]["in a round"] == ["UserError", "clip three is damaged"]  # number three was the first process's
    for found in seen[1:]:
        assert found["in a round"] == [ToldByAnother.__name__, "process 0: clip three is damaged"]
    assert [found["worked before the error"] for found in seen] == [[0], [1, 4], [2, 5]]
    assert [found["a bug"][0] for found in seen] == ["ToldByAnother", "ZeroDivisionError", "ToldByAnother"]
    assert seen[2]["a bug"][1] == "process 1: ZeroDivisionError: by zero"
    assert [found["in all"] for found in seen] == [
        ["UserError", "no such folder"],
        ["ToldByAnother", "process 0: no such folder"],
        ["ToldByAnother", "process 0: no such folder"],
    ]
    assert all(found["still talking"] == [0, 1, 2] for found in seen)


def test_alone_nothing_is_wrapped() -> None:
    state = PartialState(cpu=True)
    with pytest.raises(KeyError, match="mine"):
        together(state, lambda: {}["mine"])
    assert in_rounds(state, 3, lambda number: -number) == [0, -1, -2] and gather(state, 5) == [5]
