"""Frame of the pages: plain HTML with its style in it, nothing loaded from elsewhere, no script."""

from html import escape

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #888; --good: #2a8a4a; --bad: #c0392b }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem }
h1 { font-size: 1.3rem; margin: .2rem 0 } h2 { font-size: 1.05rem; margin: 1.6rem 0 .4rem }
nav { color: var(--soft) } nav a { margin-right: .9rem }
table { border-collapse: collapse; width: 100% } th { text-align: left; font-weight: 600 }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .7rem .3rem 0; vertical-align: top }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
.wide { overflow-x: auto } code { font-size: .92em } td { overflow-wrap: break-word } td code { white-space: nowrap }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .7rem }
.tile { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem }
.tile b { display: block; font-size: 1.25rem } .tile > span { color: var(--soft) }
.good { color: var(--good) } .bad { color: var(--bad) } .soft { color: var(--soft) }
"""
_LINKS = {"/": "Status", "/docs": "Endpoints", "/health": "Health", "/metrics": "Metrics"}


def page(title: str, body: str, refresh_s: int | None = None) -> str:
    """Writes a page; `body` is HTML. It loads itself again after `refresh_s` seconds."""
    links = "".join(f'<a href="{path}">{name}</a>' for path, name in _LINKS.items())
    refresh = f'<meta http-equiv="refresh" content="{refresh_s}">' if refresh_s else ""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{refresh}<title>{escape(title)} – rankport</title><style>{_STYLE}</style></head>"
        f"<body><nav>{links}</nav><h1>{escape(title)}</h1>{body}</body></html>"
    )
