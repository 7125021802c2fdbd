"""Process that compiles grammars to see whether that can be done at all: a line of JSON in, a line of JSON out.

Its time of the processor and its memory are limited here, since the library can be neither told to stop nor
interrupted: the system ends the process, and `GrammarTrial` reads from its end what was too much.
"""

import json
import os
import resource
import signal
import sys


def main(processor_s: float, memory_bytes: int) -> None:
    """Answers until its input ends: what is wrong with each grammar, or an empty text."""
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer("byte")  # what a grammar costs hardly depends on the vocabulary
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory_bytes)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_PROF, processor_s)
        matcher = LLMatcher(tokenizer, json.loads(line), log_level=0)
        if not matcher.is_error():
            matcher.compute_bitmask()
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        sys.stdout.write(json.dumps(matcher.get_error()) + "\n")
        sys.stdout.flush()


def _limit_memory(beyond_its_own: int) -> None:
    if sys.platform != "linux":
        return  # macOS heeds no such limit
    with open("/proc/self/statm") as file:
        wanted = int(file.read().split()[0]) * resource.getpagesize() + beyond_its_own
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
    )


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]), int(sys.argv[2]))
    except MemoryError:
        os.abort()  # as the library does
