"""What several replicas have in common, whichever framework they train with."""

from __future__ import annotations

from datetime import timedelta

# The longest wait for another process: at the meeting, and in each collective. The parent's
# --timeout, which comes before, ends a launch and finds the process that was waited for. Patience
# that ends first would lay it on one that waits.
PATIENCE = timedelta(days=1)
