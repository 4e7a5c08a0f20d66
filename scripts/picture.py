"""Draw the README's picture: one lab, really started, graded red, mended, graded green.  Usage: picture.py FILE.svg"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markdown import Markdown
from rich.text import Text

from breakfix import catalog, environments, proving, sessions
from breakfix.cli.briefs import brief
from breakfix.grading.runner import grade
from breakfix.reports import text
from breakfix.reports.record import Report
from breakfix.variants import draw

LAB: Final = "linux/disk-full-deleted-log"
WIDTH: Final = 96


def main() -> None:
    """Play the lab and write what was printed as one SVG."""
    lab = catalog.load(catalog.roots()).find(LAB)
    environment = environments.load(lab.environment)
    screen = Console(record=True, width=WIDTH, force_terminal=True, color_system="truecolor")
    started = sessions.start(environment, lab, lab.seeds[0], lambda _: None)
    session = started.session
    try:
        _type(screen, f"breakfix start {lab.name}")
        screen.print(Markdown(brief(draw(lab, session.seed, session.hosts, session.network))))
        screen.print(f"\n[green]{session.id} is ready, proven broken in {started.seconds:.1f} s.[/]\n")
        for mended in (False, True):
            if mended:
                proving.perform(environment, session, lab, proving.attempts(lab, "solutions")[0])
            _type(screen, "breakfix grade")
            made = grade(environment, session, lab, lambda _: None)
            record = Report(made, lab.title, lab.level, lab.minutes, lab.skills, (), "" if made.passed else None, "")
            screen.print(text.renderable(record))
    finally:
        environment.stop((session.id,))
    svg = screen.export_svg(title="breakfix")
    # rich's SVG names fonts on the network; a picture in a repository loads nothing.
    Path(sys.argv[1]).write_text(re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL), encoding="utf-8")


def _type(screen: Console, command: str) -> None:
    screen.print(Text.assemble(("$ ", "bold cyan"), (command, "bold")))


if __name__ == "__main__":
    main()
