"""The stack of compiled C: the sum along the deepest chain of calls, and a bound only where there is one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.deploy.conftest import Quickstart
from tnacli.cli.export import _stack_text
from tnacli.deploy import c_build
from tnacli.deploy.c import c_source
from tnacli.deploy.c_stack import Stack, red_zone, stack_in

CC = c_build.compiler() or ""
needs_gcc = pytest.mark.skipif(
    not CC
    or "gcc version"
    not in subprocess.run([*CC.split(), "-v"], capture_output=True, text=True, check=False).stderr.lower(),
    reason="needs GCC as this machine's compiler",
)

# Frames of about 100 bytes each; `three` is called from two places, and what it has is added once a chain.
CHAIN = """
void outside(char *);
static __attribute__((noinline)) void three(void) { char a[100]; outside(a); outside(a + 1); }
static __attribute__((noinline)) void two(void) { char a[100]; outside(a); three(); outside(a); }
static __attribute__((noinline)) void aside(void) { char a[150]; outside(a); outside(a + 1); }
void one(void) { char a[100]; outside(a); two(); aside(); three(); outside(a); }
"""
GROWING = """
void outside(char *);
void grows(int n) { char a[n]; outside(a); outside(a + 1); }
"""
ALIGNED = """
void outside(char *);
void aligned(void) { __attribute__((aligned(256))) char a[300]; outside(a); outside(a + 1); }
"""
RECURSIVE = """
int again(int n) { volatile int a[20]; a[0] = n; return n ? again(n / 2) + again(n - 1) + a[0] : 0; }
"""
POINTERS = """
int through(int (*f)(int)) { volatile int a[20]; a[0] = 1; return f(a[0]) + 1; }
"""


def compiled(text: str, folder: Path, *flags: str) -> Stack:
    (folder / "part.c").write_text(text)
    command = [*CC.split(), "-O1", "-c", "part.c", "-o", "part.o", "-fstack-usage", *flags]
    subprocess.run(command, cwd=folder, check=True)
    found = stack_in(folder)
    assert found is not None
    return found


@needs_gcc
def test_frames_are_added_along_the_deepest_chain_of_calls(tmp_path: Path) -> None:
    found = compiled(CHAIN, tmp_path, "-fcallgraph-info=su")
    rows = [line.split("\t") for line in (tmp_path / "part.su").read_text().splitlines()]
    frames = {row[0].rsplit(":", 1)[1]: int(row[1]) for row in rows}
    assert found == Stack(frames["one"] + frames["two"] + frames["three"], None, ("outside",))
    assert found.size_bytes > 300
    assert max(frames.values()) < found.size_bytes < sum(frames.values())


@needs_gcc
def test_without_calls_all_frames_are_added(tmp_path: Path) -> None:
    found = compiled(CHAIN, tmp_path)
    deepest = compiled(CHAIN, tmp_path, "-fcallgraph-info=su")
    assert found.size_bytes > deepest.size_bytes + 100
    assert (found.unbounded, found.library) == (None, None)


@needs_gcc
@pytest.mark.parametrize("flags", [["-fcallgraph-info=su"], []], ids=["calls", "frames alone"])
def test_a_frame_that_grows_is_no_bound_and_one_that_is_aligned_is(tmp_path: Path, flags: list[str]) -> None:
    found = compiled(GROWING, tmp_path, *flags)
    assert found.unbounded == "the frame of grows grows as it runs"
    text = _stack_text(found)
    assert "at most" not in text
    assert f"stack {found.size_bytes:,} bytes or more, since the frame of grows grows as it runs" in text
    found = compiled(ALIGNED, tmp_path, *flags)
    assert found.unbounded is None
    assert found.size_bytes >= 300
    assert f"stack at most {found.size_bytes:,} bytes and those of" in _stack_text(found)


@needs_gcc
@pytest.mark.parametrize(
    ("text", "why"), [(RECURSIVE, "again calls itself"), (POINTERS, "functions are called through pointers")]
)
def test_what_calls_itself_or_through_pointers_is_no_bound(tmp_path: Path, text: str, why: str) -> None:
    found = compiled(text, tmp_path, "-fcallgraph-info=su")
    assert (found.unbounded, found.library) == (why, ())
    assert "at most" not in _stack_text(found)


def test_a_red_zone_is_that_of_the_processor() -> None:
    assert red_zone("#define __x86_64__ 1\n#define __linux__ 1\n") == 128
    assert red_zone("#define __x86_64__ 1\n#define _WIN32 1\n") == 0
    assert red_zone("#define __ARM_ARCH 7\n") == red_zone("") == 0


def test_compilers_that_say_nothing_are_not_spoken_for(tmp_path: Path) -> None:
    assert stack_in(tmp_path) is None


def test_as_other_compilers_write_it(tmp_path: Path) -> None:
    (tmp_path / "net.su").write_text("net.c:12:slide\t48\tstatic\nC:\\net.c:20:5:run\t16\tdynamic,bounded\n")
    assert stack_in(tmp_path) == Stack(64, None, None)


MAIN = """
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "net.h"
enum { ROOM = 1 << 18 };
static unsigned char stack[ROOM] __attribute__((aligned(4096)));
static net_memory memory;
static unsigned char pixels[NET_INPUTS];
static NET_LOGIT logits[NET_CLASSES];
__attribute__((noinline, noclone)) int nothing_in(net_memory *m, const uint8_t *p, NET_LOGIT *l)
{
    return p[0] + (m != 0) + (l != 0);
}
static volatile int kept;
static void *nothing(void *given) { kept = nothing_in(&memory, pixels, logits); return given; }
static void *classify(void *given) { kept = net_classify_in(&memory, pixels, logits); return given; }
static long used(void *(*start)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;
    long n = 0;
    memset(stack, 0xA5, sizeof stack);
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, sizeof stack);
    if (pthread_create(&thread, &attributes, start, 0)) return -1;
    pthread_join(thread, 0);
    while (n < ROOM && stack[n] == 0xA5) n++;
    return ROOM - n;
}
int main(void)
{
    classify(0); /* what is looked up at the first call is looked up now */
    return printf("%ld %ld\\n", used(nothing), used(classify)) < 0;
}
"""


@needs_gcc
@pytest.mark.parametrize("integer", [False, True], ids=["floats", "whole numbers"])
def test_no_more_is_used_than_the_bound_that_is_said(quickstart: Quickstart, tmp_path: Path, integer: bool) -> None:
    """A thread's stack is painted; what a thread that does nothing needs is taken off."""
    source = c_source(quickstart.packed, "net", integer=integer)
    size = c_build.footprint(source, program=CC)
    assert size is not None
    assert size.stack is not None
    assert size.stack.unbounded is None
    c_build.write(source, tmp_path)
    (tmp_path / "main.c").write_text(MAIN)
    lean = ["-std=gnu99", "-Os", "-fno-pie", "-no-pie", "-fno-asynchronous-unwind-tables", "-Wl,-z,now", "-pthread"]
    files = [tmp_path / "main.c", tmp_path / "net.c"]
    subprocess.run([*CC.split(), *lean, "-o", tmp_path / "main", *files], check=True)
    done = subprocess.run([tmp_path / "main"], capture_output=True, text=True, check=True)
    idle, busy = map(int, done.stdout.split())
    # The lowest bytes of a frame, and of a red zone, need not be used.
    assert size.stack.size_bytes / 2 < busy - idle <= size.stack.size_bytes
