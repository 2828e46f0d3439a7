"""The exported C, compiled and run: the packed engine's logits, within a microcontroller's memory."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.deploy.conftest import KINDS, Quickstart
from tests.packed.networks import make_inputs, make_network, make_packed
from tnacli.deploy import c_build, formats
from tnacli.deploy.c import c_source
from tnacli.errors import FileFormatError, UsageError
from tnacli.packed.engine import PackedSNN

COMPILER = c_build.compiler()
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C compiler on this machine")
CC = COMPILER or ""


@pytest.mark.parametrize("events", [False, True], ids=["images", "events"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.get("layout", "plain"))
def test_logits_are_the_engines_to_the_last_bit(kind: dict[str, Any], events: bool) -> None:
    network = make_network(**kind)
    packed = make_packed(network, "ternary5", events=events)
    # Inputs, first and last weights of few bits: every sum is exact in any order, so nothing is left to rounding.
    inputs = make_inputs(network, 12, events=events)
    expected = PackedSNN(packed)(inputs).numpy()
    assert np.unique(expected, axis=0).shape[0] > 6
    found = c_build.logits(c_source(packed), inputs.numpy(), expected.shape[1], program=CC)
    np.testing.assert_array_equal(found, expected, strict=True)


@pytest.mark.parametrize(
    "kind",
    [
        {"layout": "4C3/2-AP2-5C5/2-R6-AP2-7FC", "size": (19, 18), "timesteps": 9},
        {"layout": "6C3-AP8-4C5-3C3", "size": (40, 33), "timesteps": 6},
        {"layout": "3C7-4C1-5FC", "size": (3, 2), "timesteps": 8},
    ],
    ids=["strides", "wide pooling", "small maps"],
)
def test_timesteps_fill_any_number_of_words(kind: dict[str, Any]) -> None:
    network = make_network(**kind)
    packed, inputs = make_packed(network), make_inputs(network, 12)
    expected = PackedSNN(packed)(inputs).numpy()
    assert np.unique(expected, axis=0).shape[0] > 6
    found = c_build.logits(c_source(packed), inputs.numpy(), expected.shape[1], program=CC)
    np.testing.assert_array_equal(found, expected, strict=True)


def test_lanes_hold_every_neuron_spiking_at_once() -> None:
    """All neurons of 8x8 squares spike at every timestep, and all weights have one sign: the largest sums there are."""
    network = make_network("3C3-AP8-2C3-4FC", size=(48, 40), norm="none")
    with torch.no_grad():
        network.spiking["conv1"].synapse.bias.fill_(9.0)
        network.hidden["conv2"].synapse.parametrizations.weight.original.fill_(1.0)
        network.hidden["conv2"].synapse.parametrizations.weight.original[1].fill_(-1.0)
    packed, inputs = make_packed(network), make_inputs(network, 2)
    spikes = []
    expected = PackedSNN(packed)(inputs, observe=lambda name, fired: spikes.append((name, fired.float().mean())))
    assert dict(spikes)["conv1"] == 1
    found = c_build.logits(c_source(packed), inputs.numpy(), 5, program=CC)
    np.testing.assert_array_equal(found, expected.numpy())


def test_event_frames_are_taken_as_bytes(tmp_path: Path) -> None:
    network = make_network("5C3-AP2-4C3-6FC")
    inputs = make_inputs(network, 8, events=True).numpy()
    program = c_build.build(c_source(make_packed(network, events=True)), tmp_path, "-O1", program=CC)
    from_bytes = c_build.run(program, inputs.astype(np.uint8), 5)
    assert np.unique(from_bytes, axis=0).shape[0] > 4
    np.testing.assert_array_equal(from_bytes, c_build.run(program, inputs, 5))


def test_every_digit_is_predicted_as_by_the_packed_file(quickstart: Quickstart) -> None:
    found = c_build.logits(c_source(quickstart.packed), quickstart.inputs.numpy(), 10, program=CC)
    assert found.shape == (360, 10)
    assert np.array_equal(found.argmax(1), quickstart.expected.argmax(1).numpy())


@pytest.mark.parametrize(
    "flags",
    [("-O0", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"), ("-O3", "-Wconversion", "-Wshadow")],
    ids=["sanitizers", "optimised"],
)
def test_pixels_in_pixels_out_the_same(quickstart: Quickstart, tmp_path: Path, flags: tuple[str, ...]) -> None:
    program = c_build.build(c_source(quickstart.packed), tmp_path, *flags, program=CC)
    from_pixels = c_build.run(program, quickstart.pixels.numpy(), 10)
    from_floats = c_build.run(program, quickstart.inputs.numpy(), 10)
    np.testing.assert_array_equal(from_pixels, from_floats)
    assert np.array_equal(from_pixels.argmax(1), quickstart.expected.argmax(1).numpy())


@pytest.mark.parametrize("kind", KINDS[:4], ids=lambda kind: kind.get("layout", "plain"))
def test_sanitizers_find_nothing_at_the_borders(kind: dict[str, Any], tmp_path: Path) -> None:
    network = make_network(**kind)
    source = c_source(make_packed(network))
    flags = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    program = c_build.build(source, tmp_path, *flags, program=CC)
    assert c_build.run(program, make_inputs(network, 2).numpy(), 5).shape == (2, 5)


def test_32_bit_machines_agree(quickstart: Quickstart, tmp_path: Path) -> None:
    probe = tmp_path / "probe.c"
    probe.write_text("#include <stdio.h>\nint main(void) { return 0; }\n")
    if subprocess.run([CC, "-m32", "-o", tmp_path / "probe", probe], capture_output=True, check=False).returncode:
        pytest.skip("this compiler has no 32-bit libraries (Debian: apt install gcc-multilib)")
    program = c_build.build(c_source(quickstart.packed), tmp_path, "-m32", "-O2", program=CC)
    found = c_build.run(program, quickstart.inputs.numpy(), 10)
    assert np.array_equal(found.argmax(1), quickstart.expected.argmax(1).numpy())


def test_the_quickstart_network_fits_a_microcontroller(quickstart: Quickstart) -> None:
    source = c_source(quickstart.packed)
    size = c_build.footprint(source, program=CC)
    if size is None:
        pytest.skip("no tool `size` on this machine")
    assert source.table_bytes < size.flash_bytes < 64 << 10
    assert size.static_bytes + (size.stack.size_bytes if size.stack else 0) < 32 << 10
    # What the header states is what the compiler lays out, but for alignment.
    assert source.ram_bytes <= size.static_bytes < source.ram_bytes + 128
    assert f"RAM_BYTES {source.ram_bytes} " in source.header


def test_an_eighth_of_cifarnet_takes_less_than_40_kb() -> None:
    network = make_network("cifarnet", width=1 / 8, channels=3, size=(32, 32), classes=10, timesteps=4)
    source = c_source(make_packed(network))
    assert source.ram_bytes < 40_000
    size = c_build.footprint(source, program=CC)
    if size is not None:
        assert source.ram_bytes <= size.static_bytes < source.ram_bytes + 128


def test_calls_in_memory_of_the_callers_own_leave_each_other_alone(quickstart: Quickstart, tmp_path: Path) -> None:
    c_build.write(c_source(quickstart.packed, "net"), tmp_path)
    pixels = quickstart.pixels[:2].numpy().reshape(2, -1)
    rows = ", ".join("{" + ", ".join(map(str, row)) + "}" for row in pixels)
    (tmp_path / "main.c").write_text(f"""
#include <stdio.h>
#include <string.h>
#include <pthread.h>
#include "net.h"
static const unsigned char pixels[2][NET_INPUTS] = {{{rows}}};
static net_memory memories[2];
static float logits[2][NET_CLASSES];
static void *classify(void *number)
{{
    int which = *(int *)number, n;
    for (n = 0; n < 200; n++) {{
        memset(&memories[which], 255, sizeof memories[which]);
        net_classify_in(&memories[which], pixels[which], logits[which]);
    }}
    return 0;
}}
int main(void)
{{
    int numbers[2] = {{0, 1}}, n;
    pthread_t threads[2];
    for (n = 0; n < 2; n++) pthread_create(&threads[n], 0, classify, &numbers[n]);
    for (n = 0; n < 2; n++) pthread_join(threads[n], 0);
    return fwrite(logits, sizeof logits, 1, stdout) != 1;
}}
""")
    files = [tmp_path / "main.c", tmp_path / "net.c"]
    flags = ["-std=c99", "-O2", "-pthread", "-DNET_CALLERS_MEMORY"]
    subprocess.run([CC, *flags, "-o", tmp_path / "main", *files], check=True)
    found = np.frombuffer(subprocess.run([tmp_path / "main"], capture_output=True, check=True).stdout, np.float32)
    expected = c_build.logits(c_source(quickstart.packed), quickstart.inputs[:2].numpy(), 10, program=CC)
    np.testing.assert_array_equal(found.reshape(2, 10), expected)
    subprocess.run([CC, *flags, "-c", "-o", tmp_path / "net.o", tmp_path / "net.c"], check=True)
    if shutil.which("size"):
        sizes = subprocess.run(["size", tmp_path / "net.o"], capture_output=True, text=True, check=True).stdout
        assert sizes.splitlines()[1].split()[2] == "0"  # no static memory is left


def test_tables_may_lie_where_pointers_do_not_reach(quickstart: Quickstart, tmp_path: Path) -> None:
    """Their bytes are inverted in the compiled program, and inverted back by the macros alone that read them."""
    (tmp_path / "elsewhere.h").write_text("""
#include <stdint.h>
#include <string.h>
#define TNA_NET_TABLE __attribute__((section("elsewhere")))
#define TNA_NET_BYTE(address) (uint8_t)(*(address) ^ 255)
#define TNA_NET_FLOAT(address) inverted(address)
static inline float inverted(const float *address)
{
    uint32_t bits;
    float value;
    memcpy(&bits, address, 4);
    bits = ~bits;
    memcpy(&value, &bits, 4);
    return value;
}
""")
    source = c_source(quickstart.packed)
    try:
        flags = ("-O1", "-include", str(tmp_path / "elsewhere.h"))
        program = c_build.build(source, tmp_path, *flags, program=CC)
        tool = shutil.which("objcopy")
        assert tool is not None
        subprocess.run([tool, "-O", "binary", "-j", "elsewhere", program, tmp_path / "tables"], check=True)
    except (FileFormatError, AssertionError):
        pytest.skip("the compiler has no sections, or there is no objcopy")
    table = (tmp_path / "tables").read_bytes()
    packed = quickstart.packed
    weights = 144 * 4 + 32 * 36 + 64 * 32 + 650 * 4 + 2 * 4 * (16 + 32 + 64)
    assert weights <= len(table) < weights + 256
    assert packed.readout_weight.tobytes() in table
    whole = program.read_bytes()
    assert whole.count(table) == 1
    program.write_bytes(whole.replace(table, bytes(255 - byte for byte in table)))
    expected = c_build.logits(source, quickstart.inputs[:40].numpy(), 10, program=CC)
    np.testing.assert_array_equal(c_build.run(program, quickstart.inputs[:40].numpy(), 10), expected)


def test_a_scale_that_cannot_be_divided_exactly_is_refused() -> None:
    packed = make_packed(make_network())
    tiny = {"conv2.scale": np.full_like(packed.arrays["conv2.scale"], 1e-44)}
    with pytest.raises(UsageError, match="too small for the C export"):
        c_source(dataclasses.replace(packed, arrays={**packed.arrays, **tiny}))


def test_labels_survive_whatever_is_in_them(tmp_path: Path) -> None:
    labels = ['say "cheese"', "back\\slash", "what??!", "crème 1", "*/"]
    packed = make_packed(make_network())
    about = packed.about.model_copy(update={"labels": tuple(labels)})
    source = c_source(dataclasses.replace(packed, about=about), "net")
    c_build.write(source, tmp_path)
    main = '#include <stdio.h>\n#include "net.h"\nstatic const char *const names[] = NET_LABELS;\n'
    main += "int main(void) { int k; for (k = 0; k < NET_CLASSES; k++) puts(names[k]); return 0; }\n"
    (tmp_path / "main.c").write_text(main)
    files = [tmp_path / "main.c", tmp_path / "net.c"]
    subprocess.run([CC, *c_build.STRICT, "-o", tmp_path / "names", *files], check=True)
    shown = subprocess.run([tmp_path / "names"], capture_output=True, check=True).stdout.decode()
    assert shown.splitlines() == labels


def test_two_networks_live_in_one_program(quickstart: Quickstart, tmp_path: Path) -> None:
    for prefix in ("one", "two"):
        c_build.write(c_source(quickstart.packed, prefix), tmp_path)
    main = '#include "one.h"\n#include "two.h"\nint main(void) { static unsigned char p[ONE_INPUTS]; '
    main += "static float l[TWO_CLASSES]; return one_classify(p, l) != two_classify(p, l); }\n"
    (tmp_path / "main.c").write_text(main)
    files = [tmp_path / name for name in ("main.c", "one.c", "two.c")]
    subprocess.run([CC, *c_build.STRICT, "-o", tmp_path / "both", *files], check=True)
    subprocess.run([tmp_path / "both"], check=True)


@pytest.mark.parametrize("prefix", ["1st", "a-b", "", "with space", "x" * 42, "é"])
def test_a_prefix_that_is_no_c_name_is_refused(prefix: str) -> None:
    with pytest.raises(UsageError, match="choose another name with -o"):
        c_source(make_packed(make_network()), prefix)


@pytest.mark.parametrize("integer", [False, True])
def test_no_name_of_the_source_itself_is_one_of_another_prefix(integer: bool) -> None:
    """As `own_memory` would be in files called own."""
    made = c_source(make_packed(make_network()), "zz", integer=integer)
    code = re.sub(r"/\*.*?\*/|\"[^\"]*\"", "", made.header + made.source, flags=re.S)
    names = set(re.findall(r"[A-Za-z_]\w*", code))
    prefixed = tuple(name[2:] for name in names if name.lower().startswith("zz_"))
    assert "_memory" in prefixed
    assert {name for name in names if name.endswith(prefixed) and name[:3].lower() != "zz_"} == set()


def test_a_network_that_predicts_otherwise_is_not_written(
    quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = c_build.logits
    monkeypatch.setattr(c_build, "logits", lambda *a, **k: np.roll(right(*a, **k), 1, axis=1))
    with pytest.raises(FileFormatError, match="predicts 360 of 360 samples otherwise"):
        formats.deploy(quickstart.packed, "c", tmp_path / "net", quickstart.inputs)
    assert not list(tmp_path.iterdir())


def test_a_check_that_would_take_hours_is_not_begun(quickstart: Quickstart, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_build, "PATIENCE_SECONDS", 1e-6)
    with pytest.raises(UsageError, match=r"too long for 360 samples; ask for fewer with --samples 1$"):
        c_build.logits(c_source(quickstart.packed), quickstart.inputs.numpy(), 10, program=CC)


def test_a_compiler_may_have_arguments(quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{CC} -DTNA_NET_CALLERS_MEMORY '-DNOTE=\"two words\"'")
    named = c_build.compiler()
    assert named is not None
    size = c_build.footprint(c_source(quickstart.packed), program=named)
    if size is not None:
        assert size.static_bytes == 0  # the argument was heard
    folder = tmp_path / "my compilers"
    folder.mkdir()
    (folder / "cc").symlink_to(shutil.which(CC) or "")
    monkeypatch.setenv("CC", str(folder / "cc"))
    assert c_build.compiler() == str(folder / "cc")
    assert c_build.shown(str(folder / "cc")) == "cc"
    assert c_build.shown("/usr/bin/gcc -m32") == "gcc -m32"
    found = c_build.logits(c_source(quickstart.packed), quickstart.inputs[:2].numpy(), 10, program=str(folder / "cc"))
    assert found.shape == (2, 10)
    monkeypatch.setenv("CC", "no-such-compiler -m32")
    assert c_build.compiler() != "no-such-compiler -m32"


def test_a_compiler_that_cannot_be_run_is_named(quickstart: Quickstart, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="name a C compiler in CC"):
        c_build.build(c_source(quickstart.packed), tmp_path, program=str(tmp_path / "no-compiler"))


def test_without_a_compiler_nothing_is_claimed(
    quickstart: Quickstart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(c_build, "compiler", lambda: None)
    with pytest.raises(UsageError, match="no C compiler here"):
        formats.deploy(quickstart.packed, "c", tmp_path / "net", quickstart.inputs)
    deployed = formats.deploy(quickstart.packed, "c", tmp_path / "net", torch.empty(0, 1, 8, 8))
    assert (deployed.samples, deployed.ran_on) == (0, None)
    assert [path.name for path in deployed.paths] == ["net.h", "net.c"]
    assert all(path.exists() for path in deployed.paths)
