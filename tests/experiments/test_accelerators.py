"""What is read of compiled programs, on lines that libtpu wrote, and what is made of it."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments.accelerators import chips, compilers, costs, estimate, figure, hlo, proposal, scaling, tables, variants
from experiments.results.tables import fill
from fmnist_jax import PRESETS, FmnistError, validate

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "experiments" / "accelerators"

# Of `standard` on v5e, cut down to a forward convolution, a fusion with both gradients, a loop in the loop, a copy.
CHUNK = (Path(__file__).parent / "chunk.hlo").read_text()


@pytest.fixture(scope="module")
def program() -> hlo.Program:
    return hlo.parse(CHUNK)


def test_the_body_of_the_chunk_is_found_among_loops(program: hlo.Program) -> None:
    assert program.entry == "main.1"
    assert hlo.loop_body(program) == "step"


def test_an_instruction_is_read_whatever_its_type(program: hlo.Program) -> None:
    reduced = next(each for each in program.computations["step"] if each.name == "all-reduce.1")
    assert reduced.opcode == "all-reduce"
    assert reduced.operands == ["norm", "conv_fusion.2"]
    assert hlo.shapes(reduced.kind) == [("f32", (48,)), ("f32", (3, 3, 96, 96))]
    assert reduced.attribute("to_apply") == "%add"
    assert program.computations["step"][2].cycles == 9664


def test_a_text_without_entry_or_loop_is_refused() -> None:
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("nothing")
    with pytest.raises(ValueError, match="no loop"):
        hlo.loop_body(hlo.parse("ENTRY %main (a: f32[]) -> f32[] {\n  ROOT %a = f32[] parameter(0)\n}"))


@pytest.mark.parametrize(
    ("kind", "size"),
    [("f32[3,3]{1,0:T(8,128)}", 36), ("bf16[5]", 10), ("pred[7]", 7), ("u8[2,2]", 4), ("(f32[], s32[3])", 16)],
)
def test_bytes_are_counted_by_dtype(kind: str, size: int) -> None:
    assert hlo.byte_count(kind) == size


def test_a_step_s_costs_are_those_of_one_turn(program: hlo.Program) -> None:
    found = costs.step_costs(program, "step")
    assert found["cycles"] == 2054 + 9664 + 21680 + 1000
    # A fusion with two convolutions counts as the first of them; the loop within turns once.
    assert found["cycles_by_work"] == {"image gradient": 21680, "forward": 9664, "rest": 2054, "other forward": 1000}
    assert found["unestimated"] == {"while": 1, "all-reduce": 2, "copy-start": 1}


def test_convolutions_have_role_channels_operations_and_their_part_of_the_cycles(program: hlo.Program) -> None:
    forward, images, kernel = costs.step_costs(program, "step")["convolutions"]
    # Along an edge of 14 pixels, three kernel entries meet 14 + 13 + 13 of them.
    assert forward == {"role": "forward", "channels": (48, 48), "flops": 2 * 128 * 48 * 48 * 40**2, "cycles": 9664}
    assert images["role"] == "image gradient"
    assert kernel["role"] == "kernel gradient"
    # The three faces of one form cost the same.
    assert images["flops"] == kernel["flops"] == 2 * 128 * 96 * 96 * 19**2
    assert images["channels"] == kernel["channels"] == (96, 96)
    assert images["cycles"] == kernel["cycles"] == 21680 // 2


@pytest.mark.parametrize(
    ("pixels", "results", "values", "count"),
    [
        (5, 5, {"size": 3, "before": 1}, 13),
        (6, 3, {"size": 4, "before": 1, "stride": 2}, 10),
        (3, 6, {"size": 4, "before": 2, "image_step": 2}, 10),
        (6, 4, {"size": 3, "before": 1, "kernel_step": 2}, 10),
    ],
)
def test_padding_and_holes_are_no_operations(pixels: int, results: int, values: dict[str, int], count: int) -> None:
    window = {"stride": 1, "image_step": 1, "kernel_step": 1, **values}
    assert costs._products(pixels, results, **window) == count


def test_exchanges_are_counted_by_kind_with_their_bytes_but_not_those_of_one_chip(program: hlo.Program) -> None:
    assert costs.collectives(program, "step") == {
        "all-reduce": {"count": 1, "arrays": 2, "bytes": 4 * (48 + 3 * 3 * 96 * 96)}
    }


@pytest.mark.parametrize("started", ["(f32[8]{0}, f32[64]{0})", "((f32[8]{0}), f32[64]{0})", "f32[64]{0}"])
def test_an_asynchronous_exchange_counts_once_and_its_results_alone(started: str) -> None:
    text = (
        "ENTRY %main (a: f32[8]) -> f32[64] {\n  %a = f32[8] parameter(0)\n"
        f"  %s = {started} all-gather-start(%a), replica_groups=[1,8]<=[8], dimensions={{0}}\n"
        "  ROOT %d = f32[64]{0} all-gather-done(%s)\n}"
    )
    assert costs.collectives(hlo.parse(text), "main") == {"all-gather": {"count": 1, "arrays": 1, "bytes": 256}}


def test_clocks_are_those_of_the_published_peaks() -> None:
    assert {name: round(chip.clock / 1e9, 2) for name, chip in chips.CHIPS.items()} == {
        "v5e": 1.5,
        "v5p": 1.75,
        "v6e": 1.75,
    }


def record(**changes: Any) -> dict[str, Any]:
    """An estimate as it is kept."""
    return {
        **{"target": "v5e:1x1", "preset": "standard", "part": "training", "batch_size": 128, "widths": [48, 96, 192]},
        **{"chips": 1, "flops": 1.5e9, "bytes": 2e8, "temporary_bytes": 7_000_000, "cycles": 1_503_000},
        "cycles_by_work": {"forward": 1_000_000, "rest": 503_000},
        "convolutions": [{"role": "forward", "channels": [48, 48], "flops": 65_536_000_000, "cycles": 1_000_000}],
        "collectives": {"all-reduce": {"count": 3, "arrays": 5, "bytes": 2_000_000}},
        "versions": {"jax": "1", "libtpu": "2"},
        "commit": "a" * 40,
        **changes,
    }


def test_a_row_has_times_by_the_clock_and_shares_of_the_matrix_units() -> None:
    row = tables.table([record()]).splitlines()[4].strip("| ").split(" | ")
    assert row[:4] == ["standard", "training", "128", "v5e 1x1"]
    assert row[4:] == ["1.5", "0.20", "7.0", "1.00", "1%", "50% / n/a / n/a", "3 all-reduce, 2.00 MB"]
    gpu = record(target="h100:8", chips=8, cycles=0, flops=None, bytes=None, convolutions=[])
    assert "| h100 8 | n/a | n/a | 7.0 | n/a | n/a | n/a / n/a / n/a |" in tables.table([gpu])


def test_every_table_says_that_it_is_an_estimate() -> None:
    every = [tables.table([record()]), tables.layers_table([record()]), tables.work_table([record()])]
    for made in [*every, tables.variants_table([record()])]:
        headings = next(line for line in made.splitlines() if line.startswith("|"))
        names = {"preset", "part", "images", "chips", "images a chip", "channels", "variant"}
        assert all(name in names or name.startswith("est. ") for name in headings.strip("| ").split(" | "))
    assert "no figure in any column is a measurement" in tables.table([record()])
    assert tables.table([]) == tables.layers_table([]) == tables.variants_table([]) == tables.NOTHING


def test_a_proposal_compares_what_has_been_compiled_and_nothing_else() -> None:
    wide = record(preset="standard, widths 64, 128, 256", flops=3e9, cycles=1_803_600)
    assert proposal.proposal([record(), wide]).count("\n") == 0
    assert "2.00 times the operations a step in 1.20 times the estimated time" in proposal.proposal([record(), wide])
    batch = record(preset="standard, batch 512", batch_size=512, cycles=3_006_000)
    assert "2.00 times as many images a second" in proposal.proposal([record(), batch])
    assert proposal.proposal([wide]) == tables.NOTHING


def test_the_figure_has_a_curve_for_each_preset_and_says_what_it_is() -> None:
    drawn = figure.figure([record(), record(chips=8, target="v5e:2x4", cycles=300_600), record(part="evaluation")])
    axes = drawn.axes[0]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [1, 8]
    assert "estimate, not a measurement" in axes.get_title()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_an_estimate_takes_the_place_of_an_earlier_one_of_that_preset_however_it_was_then() -> None:
    kept = [record(batch_size=512, widths=[8]), record(preset="fast"), record(preset="standard, batch 512")]
    assert estimate.merged(kept, record(cycles=1)) == [kept[1], kept[2], record(cycles=1)]


def test_time_alone_is_a_line_on_logarithmic_axes() -> None:
    known = [(16.0, 1e-3), (64.0, 2e-3), (256.0, 8e-3)]
    assert scaling.alone(1, known) == scaling.alone(16, known) == 1e-3
    assert scaling.alone(32, known) == pytest.approx(2**0.5 * 1e-3)
    assert scaling.alone(512, known) == pytest.approx(16e-3)


def test_latency_and_bandwidth_follow_the_shape_of_the_torus() -> None:
    small, large = scaling.torus(2, 4), scaling.torus(16, 16)
    assert [each.chips for each in (small, large)] == [8, 256]
    assert [each.bandwidth for each in (small, large)] == [90e9, 180e9]
    assert [each.latency[0] for each in (small, large)] == pytest.approx([8e-6, 32e-6])


def test_speed_up_is_the_formula_s() -> None:
    known, exchanged = [(1.0, 1e-3), (1024.0, 1.024)], scaling.Exchange(10, 90_000_000)
    network = scaling.Network("", 8, 90e9, (1e-6, 1e-3))
    # t(B / 8) = 128 ms, the gradients 2 ms, ten exchanges 0.01 or 10 ms.
    assert scaling.together(1024, network, exchanged, known, 1e-3) == pytest.approx(0.14)
    assert scaling.speed_up(1024, network, exchanged, known) == pytest.approx((1.024 / 0.14, 1.024 / 0.13001))
    # Half of eight-fold needs as much computing as exchanging: 12 ms, 96 images, or 2.01 ms, 17 images.
    assert scaling.least_batch(network, exchanged, known, 1e-3) == 128
    assert scaling.least_batch(network, exchanged, known, 1e-6) == 32


def test_variants_are_configurations_that_can_be_trained() -> None:
    found = dict(variants.variants())
    for config in found.values():
        validate(config)
    assert found["standard, batch 512"].train.batch_size == 512
    assert found["record"] == PRESETS["record"]


def test_what_is_committed_is_what_the_committed_estimates_make() -> None:
    records = estimate.read(estimate.RESULTS)
    short = estimate.PAGE.read_text()
    assert fill(short, {"accelerators": estimate.short_table(records)}) == short
    page = (_FOLDER / "README.md").read_text()
    assert fill(page, estimate.page_tables(records, estimate.read(variants.RESULTS))) == page


def test_the_plan_for_size_is_what_its_formulas_make() -> None:
    assert scaling.made() == scaling.OUT.read_text()


def test_a_missing_compiler_or_an_unknown_chip_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FmnistError, match="expected a shape of v5e"):
        compilers.open_target("v9:1x1")
    with pytest.raises(FmnistError, match="expected a number of H100s"):
        compilers.open_target("h100:many")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FmnistError, match=r"libtpu, which compiles for .*, is not installed: pip install '\.\[tpu\]'"):
        compilers.open_target("v5e:1x1")


def test_the_script_compiles_for_a_chip_that_is_not_here(tmp_path: Path) -> None:
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install '.[tpu]'")
    results = tmp_path / "estimates.json"
    command = [sys.executable, "-m", "experiments.accelerators.estimate", "--results", str(results)]
    command += ["--targets", "v5e:1x1", "--presets", "demo", "--parts", "prediction"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=_ROOT, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(results.read_text())["estimates"]
    assert found["cycles"] > 0
    assert found["flops"] > 1e8
    assert "| demo | prediction |" in done.stdout
