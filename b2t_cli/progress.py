"""One line that says how far a long work is, how fast it goes, and how long the rest will take."""

from __future__ import annotations

SECONDS_BETWEEN_REPORTS = 5


def progress_line(done: int, total: int, unit: str, before: int, seconds: float) -> str:
    """Return the line.

    Args:
        done: how many units are finished.
        total: how many there are.
        unit: what is counted, such as ``lines``.
        before: how many of them were finished before this call began.
        seconds: how long this call has worked.
    """
    line = f"{done:,} of {total:,} {unit} ({100 * done // total}%)"
    if done <= before or seconds <= 0:
        return line
    speed = (done - before) / seconds
    shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
    return f"{line}, {shown} {unit}/s, {duration((total - done) / speed)} left"


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds, such as 1:02:03 or 2:03."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
