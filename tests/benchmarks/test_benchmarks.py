"""The smallest benchmark runs whole; what comes of results is right. No time is judged."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
if not (ROOT / "benchmarks").is_dir():
    pytest.skip("only in a checkout", allow_module_level=True)

from benchmarks import document  # noqa: E402
from benchmarks.__main__ import file_name  # noqa: E402
from benchmarks.measure import Record, measured  # noqa: E402
from benchmarks.profiling import part_of  # noqa: E402
from benchmarks.results import Results, read  # noqa: E402
from benchmarks.suites import LIMIT, plan  # noqa: E402
from benchmarks.targets import TARGETS, Finding  # noqa: E402
from benchmarks.work import SkippedError  # noqa: E402
from benchmarks.worker import FailedError, Worker  # noqa: E402

STEP = {"width": 0.25, "batch": 64, "precision": "fp32", "device": "cpu"}
TIMES = {"ours": {"min_ms": 1.0, "median_ms": 1.0}, "theirs": {"min_ms": 2.0, "median_ms": 2.0}, "rounds": 3}


@pytest.fixture(scope="module")
def smallest(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """The smallest suite, run as a user runs it."""
    file = tmp_path_factory.mktemp("benchmarks") / "cpu.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "benchmarks", "--suite", "smallest", "--json", str(file)],
        cwd=ROOT, env=environment, capture_output=True, timeout=600, check=True,
    )  # fmt: skip
    return read(file)


@pytest.mark.slow
def test_every_measurement_of_the_smallest_suite_succeeds(smallest: Results, tmp_path: Path) -> None:
    keys = [what.key for what in plan("smallest", "cpu", ["fp32"], tmp_path)]
    for key in keys:
        (record,) = smallest.find(**key)
        assert not {"skipped", "failed"} & record.keys(), record
    pair = smallest.one("training", name=LIMIT)
    assert pair is not None
    assert 0 < pair["ours"]["min_ms"] <= pair["ours"]["median_ms"]


@pytest.mark.slow
def test_a_suite_that_was_cut_off_keeps_what_it_has_and_goes_on_from_there(tmp_path: Path) -> None:
    file = tmp_path / "cpu.json"
    command = [sys.executable, "-m", "benchmarks", "--suite", "smallest", "--json", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as cut_off:
        assert cut_off.stdout is not None
        next(line for line in cut_off.stdout if line.startswith("[1/"))
        cut_off.kill()
    kept = read(file).records
    assert kept
    done = subprocess.run(
        [*command, "--missing"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=True
    )
    keys = [what.key for what in plan("smallest", "cpu", ["fp32"], tmp_path)]
    assert f"/{len(keys) - len(kept)}, " in done.stdout
    whole = read(file)
    assert all(whole.one(**key) for key in keys)
    assert whole.records[: len(kept)] == kept


@pytest.mark.slow
def test_peers_hold_the_same_network(smallest: Results) -> None:
    peer = smallest.one("agreement", name="plain PyTorch loop")
    assert peer is not None
    assert peer["logits"] < 1e-9
    assert peer["gradient"] < 1e-9
    assert peer["firing_rate"] > 0.05  # silent networks agree on nothing
    dense = smallest.one("evaluation", name="dense PyTorch")
    assert dense is not None
    assert dense["equal_predictions"] == dense["samples"]


@pytest.mark.slow
def test_the_page_shows_every_target_and_measurement(smallest: Results) -> None:
    page = document.render(document.TEMPLATE.read_text(encoding="utf-8"), [smallest])
    assert "<!--" not in page
    for target in TARGETS:
        assert target.what in page
    assert "| plain PyTorch loop | 0.0e+00 |" in page


def test_the_committed_page_is_what_its_results_render_to() -> None:
    assert document.PAGE.read_text(encoding="utf-8") == document.page(), "run `python -m benchmarks.document`"


class Failing:
    def __init__(self, error: Exception) -> None:
        self.key: Record = {"kind": "training", "name": "peer"}
        self.error = error

    def measure(self) -> Record:
        raise self.error


def test_what_cannot_be_measured_leaves_its_reason() -> None:
    assert measured(Failing(SkippedError("not there"))) == {"kind": "training", "name": "peer", "skipped": "not there"}
    assert measured(Failing(FailedError("broken"))) == {"kind": "training", "name": "peer", "failed": "broken"}


def test_a_worker_answers_with_reasons_and_stays() -> None:
    from benchmarks.work import Work

    with Worker() as worker:
        with pytest.raises(FailedError, match="KeyError: 'nobody'"):
            worker.build("a", "training", "nobody", Work(1 / 32, 2))
        assert worker.call("machine", "cpu")["cores"] >= 1


def test_a_new_result_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    results = Results({"date": "2026-01-01"})
    results.add({"kind": "training", "name": "peer", **STEP, "failed": "broken"})
    results.add({"kind": "training", "name": "other", **STEP, "ratio": 3.0})
    results.add({"kind": "training", "name": "peer", **STEP, "ratio": 2.0, **TIMES})
    assert [record.get("ratio") for record in results.records] == [2.0, 3.0]
    results.write(tmp_path / "cpu.json")
    assert read(tmp_path / "cpu.json") == results


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cpu.json").write_text('{"version": 0}')
    with pytest.raises(ValueError, match="move it away"):
        read(tmp_path / "cpu.json")


def machine_with(capability: str, *records: Record, **more: str) -> Results:
    versions = {
        "versions": {"torch": "2.11.0"},
        "cores": 2,
        "memory_gb": 8,
        "system": "Linux",
        "threads": 2,
        "kernels": "none",
    }
    facts = {"processor": "AMD EPYC", "capability": capability, **versions, **more}
    return Results({"date": "2026-01-01", "suite": "full", "load": [0.0, 0.0], "machine": facts}, list(records))


def test_processors_stand_side_by_side_and_a_gpu_by_itself() -> None:
    machines = [
        machine_with("AVX2", step("SpikingJelly", 2.11)), machine_with("AVX512", step("SpikingJelly", 1.65)),
        machine_with("AVX512", step("SpikingJelly", 9.0) | {"device": "cuda"}, gpu="Nice GPU"),
    ]  # fmt: skip
    page = document.render("<!-- targets -->\n<!-- machine -->\n<!-- training of GPUs -->", machines)
    assert "| what | target | AMD EPYC, AVX2 | AMD EPYC, AVX512 |" in page
    first = next(line for line in page.splitlines() if TARGETS[0].what in line)
    assert first.endswith("| 2.0 times as fast | 2.11 times: met | 1.65 times: **missed** |")
    assert page.count("### AMD EPYC, AVX512") == page.count("### Nice GPU") == 1
    assert document.render("<!-- training of GPUs -->", machines[:2]) == "Not measured.\n"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_device_s_training_is_measured_in_the_precisions_asked_for(
    device: str, precision: str, tmp_path: Path
) -> None:
    kinds = ("training", "co-training", "memory")
    steps = [what.key for what in plan("full", device, [precision], tmp_path) if what.key["kind"] in kinds]
    of_training = [key["precision"] for key in steps if key.get("task", "training") == "training"]
    assert set(of_training) == {precision}


def test_results_are_kept_under_the_name_of_the_processor() -> None:
    assert file_name(machine_with("AVX2").about["machine"]) == "amd-epyc-avx2.json"
    assert file_name(machine_with("AVX2", gpu="NVIDIA H100 80GB HBM3").about["machine"]) == "nvidia-h100-80gb-hbm3.json"
    for path in document.FOLDER.glob("*.json"):
        assert path.name == file_name(read(path).about["machine"])


def judged(what: str, *records: Record, capability: str = "AVX2") -> Finding:
    """Of the one target whose text begins with `what`."""
    (target,) = (target for target in TARGETS if target.what.startswith(what))
    return target.judge(machine_with(capability, *records))


STEP_OF_A_QUARTER = "training step, width 1/4, batch 64, fp32"


def step(name: str, ratio: float, **more: Any) -> Record:
    return {"kind": "training", "name": name, **STEP, "ratio": ratio, **TIMES, **more}


def test_a_step_is_judged_against_the_fastest_setting_of_the_best_peer() -> None:
    rows = (step("SpikingJelly", 2.5), step("SpikingJelly, channels last", 1.69), step(LIMIT, 0.5), step("norse", 1.0))
    found = judged(STEP_OF_A_QUARTER, *rows)
    assert (found.met, found.text) == (False, "1.69 times")
    assert "channels last" in found.remark
    assert "3.38 times" in found.remark
    assert judged(STEP_OF_A_QUARTER, step("SpikingJelly", 2.0)).met is True


def test_what_was_not_measured_is_neither_met_nor_missed() -> None:
    for target in TARGETS:
        assert target.judge(machine_with("AVX2")).met is None
    other_size = step("SpikingJelly", 2.0) | {"width": 0.125}
    assert judged(STEP_OF_A_QUARTER, other_size).met is None
    skipped = judged(
        "the same in bf16",
        {"kind": "training", "name": "SpikingJelly", **STEP, "precision": "bf16", "skipped": "no bf16"},
    )
    assert (skipped.met, skipped.remark) == (None, "no bf16")


def test_faster_evaluation_counts_only_with_the_same_predictions() -> None:
    record = {
        "kind": "evaluation",
        "name": "SpikingJelly",
        "width": 1.0,
        "precision": "fp32",
        "ratio": 6.0,
        "samples": 16,
    }
    assert judged("evaluation of a packed", {**record, "equal_predictions": 16}).met is True
    assert judged("evaluation of a packed", {**record, "equal_predictions": 15}).met is False


def test_low_memory_must_be_small_and_fast_enough() -> None:
    peer = {"kind": "memory", "task": "training", "name": "SpikingJelly", **STEP, "mb": 100.0}
    ours = {**peer, "name": "tnacli, low memory", "mb": 25.0}
    assert judged("peak memory with the low-memory option", peer, ours, step("tnacli, low memory", 1.35)).met is True
    assert judged("peak memory with the low-memory option", peer, ours, step("tnacli, low memory", 1.36)).met is False
    assert (
        judged(
            "peak memory with the low-memory option", peer, {**ours, "mb": 26.0}, step("tnacli, low memory", 1.0)
        ).met
        is False
    )


def test_help_is_to_be_quicker_where_the_processor_is() -> None:
    took = {"kind": "process", "name": "tna --help", "rounds": 10, "min_ms": 190.0, "median_ms": 200.0}
    assert judged("`tna --help`", took).met is True
    assert judged("`tna --help`", took, capability="AVX512").met is False


def test_operators_belong_to_the_parts_of_a_step() -> None:
    assert part_of("aten::convolution_backward") == "convolutions, backward"
    assert part_of("aten::mkldnn_convolution") == "convolutions, forward"
    assert part_of("_NormLIFPoolBackward") == "batch norm, neurons and pooling, backward"
    assert part_of("_NormLIFPool") == "batch norm, neurons and pooling, forward"
    assert part_of("aten::_fused_adam_") == "optimiser"
    assert part_of("aten::addmm") == "matrix products, both ways"
    assert part_of("aten::something_new") == "everything else"
