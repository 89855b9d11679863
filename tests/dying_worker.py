"""The fake worker behind the real one's promise to end with its parent."""

from __future__ import annotations

import os

from bench import worker

if __name__ == "__main__":
    from tests import fake_worker

    worker._end_with_parent()
    plain = fake_worker.report

    def report(channel, script, request):
        worker._end_with_parent(fork_of=os.getppid())
        plain(channel, script, request)

    fake_worker.report = report
    fake_worker.main()
