"""Parsing of compiled programs, on text that libtpu wrote, and the estimates, tables and pages made from them."""

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
from experiments.results.tables import fill_markers
from fmnist_jax import PRESETS, FmnistError, validate

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "experiments" / "accelerators"

# Of `standard` on v5e, reduced to a forward convolution, a fusion with both gradients, an inner loop and a copy.
CHUNK = (Path(__file__).parent / "chunk.hlo").read_text()


@pytest.fixture(scope="module")
def program() -> hlo.Program:
    return hlo.parse(CHUNK)


def test_loop_body_finds_the_chunk_body(program: hlo.Program) -> None:
    assert program.entry == "main.1"
    assert hlo.loop_body(program) == "step"


def test_parse_reads_an_instruction_of_tuple_type(program: hlo.Program) -> None:
    all_reduce = next(instruction for instruction in program.computations["step"] if instruction.name == "all-reduce.1")
    assert all_reduce.opcode == "all-reduce"
    assert all_reduce.operands == ["norm", "conv_fusion.2"]
    assert hlo.shapes(all_reduce.result_type) == [("f32", (48,)), ("f32", (3, 3, 96, 96))]
    assert all_reduce.attribute("to_apply") == "%add"
    assert program.computations["step"][2].cycles == 9664


def test_text_without_entry_or_loop_is_rejected() -> None:
    with pytest.raises(ValueError, match="no ENTRY"):
        hlo.parse("nothing")
    with pytest.raises(ValueError, match="no loop"):
        hlo.loop_body(hlo.parse("ENTRY %main (a: f32[]) -> f32[] {\n  ROOT %a = f32[] parameter(0)\n}"))


@pytest.mark.parametrize(
    ("result_type", "size"),
    [("f32[3,3]{1,0:T(8,128)}", 36), ("bf16[5]", 10), ("pred[7]", 7), ("u8[2,2]", 4), ("(f32[], s32[3])", 16)],
)
def test_byte_count_depends_on_dtype_and_shape(result_type: str, size: int) -> None:
    assert hlo.byte_count(result_type) == size


def test_step_costs_cover_one_iteration(program: hlo.Program) -> None:
    step = costs.step_costs(program, "step")
    assert step["cycles"] == 2054 + 9664 + 21680 + 1000
    # A fusion with two convolutions counts as the first of them; the inner loop counts once.
    assert step["cycles_by_work"] == {"image gradient": 21680, "forward": 9664, "rest": 2054, "other forward": 1000}
    assert step["unestimated"] == {"while": 1, "all-reduce": 2, "copy-start": 1}


def test_convolutions_have_role_channels_flops_and_share_of_the_cycles(program: hlo.Program) -> None:
    forward, images, kernel = costs.step_costs(program, "step")["convolutions"]
    # Along an edge of 14 pixels, the three kernel entries overlap 14 + 13 + 13 of them.
    assert forward == {"role": "forward", "channels": (48, 48), "flops": 2 * 128 * 48 * 48 * 40**2, "cycles": 9664}
    assert images["role"] == "image gradient"
    assert kernel["role"] == "kernel gradient"
    # A convolution and its two gradients cost the same.
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
def test_padding_and_dilation_holes_are_not_counted(
    pixels: int, results: int, values: dict[str, int], count: int
) -> None:
    window = {"stride": 1, "image_step": 1, "kernel_step": 1, **values}
    assert costs._count_products(pixels, results, **window) == count


def test_collectives_are_counted_by_kind_except_those_within_one_chip(program: hlo.Program) -> None:
    assert costs.count_collectives(program, "step") == {
        "all-reduce": {"count": 1, "arrays": 2, "bytes": 4 * (48 + 3 * 3 * 96 * 96)}
    }


@pytest.mark.parametrize("start_type", ["(f32[8]{0}, f32[64]{0})", "((f32[8]{0}), f32[64]{0})", "f32[64]{0}"])
def test_asynchronous_collective_counts_once_by_its_results(start_type: str) -> None:
    text = (
        "ENTRY %main (a: f32[8]) -> f32[64] {\n  %a = f32[8] parameter(0)\n"
        f"  %s = {start_type} all-gather-start(%a), replica_groups=[1,8]<=[8], dimensions={{0}}\n"
        "  ROOT %d = f32[64]{0} all-gather-done(%s)\n}"
    )
    assert costs.count_collectives(hlo.parse(text), "main") == {"all-gather": {"count": 1, "arrays": 1, "bytes": 256}}


def test_clock_rates_follow_from_published_peaks() -> None:
    assert {name: round(chip.clock_hz / 1e9, 2) for name, chip in chips.CHIPS.items()} == {
        "v5e": 1.5,
        "v5p": 1.75,
        "v6e": 1.75,
    }


def make_record(**changes: Any) -> dict[str, Any]:
    """An estimate as it is stored."""
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


def test_table_row_has_times_and_matrix_unit_shares() -> None:
    row = tables.table([make_record()]).splitlines()[4].strip("| ").split(" | ")
    assert row[:4] == ["standard", "training", "128", "v5e 1x1"]
    assert row[4:] == ["1.5", "0.20", "7.0", "1.00", "1%", "50% / n/a / n/a", "3 all-reduce, 2.00 MB"]
    gpu = make_record(target="h100:8", chips=8, cycles=0, flops=None, bytes=None, convolutions=[])
    assert "| h100 8 | n/a | n/a | 7.0 | n/a | n/a | n/a / n/a / n/a |" in tables.table([gpu])


def test_every_table_is_marked_as_an_estimate() -> None:
    all_tables = [
        tables.table([make_record()]),
        tables.layers_table([make_record()]),
        tables.work_table([make_record()]),
    ]
    for table in [*all_tables, tables.variants_table([make_record()])]:
        headings = next(line for line in table.splitlines() if line.startswith("|"))
        names = {"preset", "part", "images", "chips", "images a chip", "channels", "variant"}
        assert all(name in names or name.startswith("est. ") for name in headings.strip("| ").split(" | "))
    assert "no figure in any column is a measurement" in tables.table([make_record()])
    assert tables.table([]) == tables.layers_table([]) == tables.variants_table([]) == tables.EMPTY_NOTE


def test_proposal_compares_only_compiled_variants() -> None:
    wide = make_record(preset="standard, widths 64, 128, 256", flops=3e9, cycles=1_803_600)
    assert proposal.proposal([make_record(), wide]).count("\n") == 0
    assert "2.00 times the operations a step in 1.20 times the estimated time" in proposal.proposal(
        [make_record(), wide]
    )
    batch = make_record(preset="standard, batch 512", batch_size=512, cycles=3_006_000)
    assert "2.00 times as many images a second" in proposal.proposal([make_record(), batch])
    assert proposal.proposal([wide]) == tables.EMPTY_NOTE


def test_figure_has_a_curve_per_preset_and_is_titled_an_estimate() -> None:
    fig = figure.figure(
        [make_record(), make_record(chips=8, target="v5e:2x4", cycles=300_600), make_record(part="evaluation")]
    )
    axes = fig.axes[0]
    assert np.asarray(axes.lines[0].get_xdata()).tolist() == [1, 8]
    assert "estimate, not a measurement" in axes.get_title()
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")


def test_merge_record_replaces_the_earlier_record_of_the_same_preset() -> None:
    records = [
        make_record(batch_size=512, widths=[8]),
        make_record(preset="fast"),
        make_record(preset="standard, batch 512"),
    ]
    assert estimate.merge_record(records, make_record(cycles=1)) == [records[1], records[2], make_record(cycles=1)]


def test_single_chip_seconds_interpolates_on_log_log_axes() -> None:
    points = [(16.0, 1e-3), (64.0, 2e-3), (256.0, 8e-3)]
    assert scaling.single_chip_seconds(1, points) == scaling.single_chip_seconds(16, points) == 1e-3
    assert scaling.single_chip_seconds(32, points) == pytest.approx(2**0.5 * 1e-3)
    assert scaling.single_chip_seconds(512, points) == pytest.approx(16e-3)


def test_torus_latency_and_bandwidth_follow_its_shape() -> None:
    small, large = scaling.torus(2, 4), scaling.torus(16, 16)
    assert [torus.chips for torus in (small, large)] == [8, 256]
    assert [torus.bandwidth for torus in (small, large)] == [90e9, 180e9]
    assert [torus.latency[0] for torus in (small, large)] == pytest.approx([8e-6, 32e-6])


def test_speedup_and_min_batch_size_follow_the_formula() -> None:
    points, exchange = [(1.0, 1e-3), (1024.0, 1.024)], scaling.Exchange(10, 90_000_000)
    network = scaling.Network("", 8, 90e9, (1e-6, 1e-3))
    # t(B / 8) = 128 ms, the gradients 2 ms, ten exchanges 0.01 or 10 ms.
    assert scaling.parallel_seconds(1024, network, exchange, points, 1e-3) == pytest.approx(0.14)
    assert scaling.speedup(1024, network, exchange, points) == pytest.approx((1.024 / 0.14, 1.024 / 0.13001))
    # For half of the eight-fold speed-up, computing must take as long as exchanging: 12 ms, 96 images, or 2.01 ms, 17.
    assert scaling.min_batch_size(network, exchange, points, 1e-3) == 128
    assert scaling.min_batch_size(network, exchange, points, 1e-6) == 32


def test_variants_are_valid_configurations() -> None:
    configs = dict(variants.variants())
    for config in configs.values():
        validate(config)
    assert configs["standard, batch 512"].train.batch_size == 512
    assert configs["record"] == PRESETS["record"]


def test_committed_pages_match_the_committed_estimates() -> None:
    records = estimate.read_records(estimate.RESULTS)
    docs_page = estimate.PAGE.read_text()
    assert fill_markers(docs_page, {"accelerators": estimate.short_table(records)}) == docs_page
    readme = (_FOLDER / "README.md").read_text()
    assert fill_markers(readme, estimate.page_tables(records, estimate.read_records(variants.RESULTS))) == readme


def test_committed_scaling_page_matches_its_formulas() -> None:
    assert scaling.render_committed_estimates() == scaling.OUT.read_text()


def test_missing_compiler_and_unknown_chips_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FmnistError, match="expected a shape of v5e"):
        compilers.open_target("v9:1x1")
    with pytest.raises(FmnistError, match="expected a number of H100s"):
        compilers.open_target("h100:many")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FmnistError, match=r"libtpu, which compiles for .*, is not installed: pip install '\.\[tpu\]'"):
        compilers.open_target("v5e:1x1")


def test_script_compiles_for_an_absent_chip(tmp_path: Path) -> None:
    pytest.importorskip("libtpu", reason="libtpu is not installed: pip install '.[tpu]'")
    results = tmp_path / "estimates.json"
    command = [sys.executable, "-m", "experiments.accelerators.estimate", "--results", str(results)]
    command += ["--targets", "v5e:1x1", "--presets", "demo", "--parts", "prediction"]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "XLA_FLAGS": ""}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=_ROOT, check=False)
    assert result.returncode == 0, result.stderr
    (record,) = json.loads(results.read_text())["estimates"]
    assert record["cycles"] > 0
    assert record["flops"] > 1e8
    assert "| demo | prediction |" in result.stdout
