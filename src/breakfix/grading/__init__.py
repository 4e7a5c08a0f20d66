"""Grading: what a lab's author writes a grader with, and what runs it.

For authors: ``from breakfix.grading import baseline, check``.
"""

from breakfix.grading.checks import baseline, check

__all__ = ["baseline", "check"]
