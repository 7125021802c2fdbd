"""Looks of the page: one column on a phone, plots side by side on a desk."""

STYLE = """
:root { color-scheme: light; --ink: #1c2733; --line: #dde3ea; --blue: #2c6fd1; --red: #b00020; --grey: #66758a }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; margin: 1.5rem auto; max-width: 64rem; padding: 0 1rem; color: var(--ink) }
h1 { margin: 0 0 .6rem; font-size: 1.6rem } h2 { margin: 2rem 0 .4rem; font-size: 1.15rem } p { margin: .3rem 0 .6rem }
.verdict { padding: .7rem 1rem; border-left: 5px solid #1a7f4b; background: #edf7f1 }
.verdict.bad { border-color: var(--red); background: #fdf0f1 } .verdict ul { margin: .3rem 0 0; padding-left: 1.2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; margin: 1rem 0 }
dt { color: var(--grey) } dd { margin: 0; overflow-wrap: anywhere }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
td, th { padding: .22rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line) }
th.bar { position: static } th { border-bottom: 2px solid var(--ink); font-weight: 600 }
td:first-child, th:first-child { text-align: left; padding-left: 0 }
.limits td { color: var(--grey); border-bottom: 0; font-weight: 600 }
.noise td { color: var(--grey); font-style: italic }
.bar { min-width: 7.5rem; position: relative } .bar i { position: absolute; inset: .35rem auto .35rem .7rem;
  max-width: 4rem; background: #b9d2f3 }
.bad td { color: var(--red); font-weight: 600 } .bad .bar i { background: #f0b6be }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(26rem, 100%), 1fr)); gap: 1.5rem 2rem }
figure { margin: 0; max-width: 34rem } figcaption { color: var(--grey); font-size: .9rem; margin-bottom: .3rem }
figcaption b { color: var(--ink) } svg { width: 100%; height: auto; display: block }
svg text { font: 12px system-ui, sans-serif; fill: var(--grey) } svg .axis { fill: var(--ink) }
.grid { stroke: var(--line); fill: none } .frame { stroke: var(--grey); fill: none }
.identity { stroke: var(--grey); stroke-dasharray: 5 4; fill: none }
.of-source { stroke: #e08a1e; stroke-width: 2; fill: none }
.dots { stroke: var(--blue); stroke-width: 5; stroke-linecap: round; fill: none; opacity: .55 } .faint { opacity: .25 }
.odd { stroke: var(--red); opacity: .9 }
.bar-of { fill: var(--blue) } .limit { stroke: var(--red); stroke-dasharray: 4 3 } svg .limit-name { fill: var(--red) }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; gap: 0 } dd { margin-bottom: .5rem }
  td, th { padding: .22rem .35rem; font-size: .85rem } td:first-child { white-space: normal }
  .wide { display: none } .bar { min-width: 4rem } .bar i { max-width: 3rem; left: .35rem } }
"""
