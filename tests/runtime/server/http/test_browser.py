"""Pages in a real browser, wide and narrow: nothing sticks out sideways. Under full effort, where Chromium is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.effort import FACTOR
from support.servers.http import ask

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FRAME = """<!doctype html><body style="margin:0"><iframe id=f width={width} height=900 ></iframe>
<script>
const f = document.getElementById("f");
f.srcdoc = {page};
f.onload = () => {{ const d = f.contentDocument.documentElement;
document.title = d.scrollWidth + " " + d.clientWidth + " " + d.innerText.length; }};
</script></body>"""


@pytest.mark.skipif(FACTOR == 1 or CHROMIUM is None, reason="needs full effort and Chromium")
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_fits_its_window(address: str, tmp_path: Path, path: str, width: int) -> None:
    assert ask(address, "/rerank", {"query": "a", "texts": ["b"]}).status == 200
    html = re.sub(r'<meta http-equiv="refresh"[^>]*>', "", ask(address, path).text)
    page = repr(html).replace("</script", "<\\/script")
    (tmp_path / "frame.html").write_text(FRAME.format(width=width, page=page), encoding="utf-8")
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"file://{tmp_path / 'frame.html'}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    scrolled, wide, letters = map(int, re.search(r"<title>(\d+) (\d+) (\d+)</title>", shown).groups())  # type: ignore[union-attr]
    assert width - 20 <= wide <= width  # a scroll bar stands beside it
    assert scrolled <= wide
    assert letters > 300
