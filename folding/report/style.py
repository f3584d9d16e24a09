"""The style sheet of the HTML report: light and dark, screen and paper, embedded in the page."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #fff; --ink: #1a1f2b; --soft: #5a6475; --line: #e1e5eb; --stripe: #fafbfc;
  --accent: #2f5fd0; --good: #14733d; --good-bg: #e3f4e9; --bad: #b3261e; --bad-bg: #fce8e6;
  --warn: #8a5300; --warn-bg: #fff2dc; --chip: #eceff4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #10141b; --card: #181d27; --ink: #e6eaf1; --soft: #9aa5b8; --line: #2a3140; --stripe: #1c222d;
    --accent: #82a7ff; --good: #6fd898; --good-bg: #15301f; --bad: #ff9a91; --bad-bg: #3a1a18;
    --warn: #f5bd64; --warn-bg: #35270f; --chip: #262d3a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 82rem; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: .2rem 0 .5rem; letter-spacing: -.01em; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 0 0 .5rem; }
p { margin: .3rem 0; }
a { color: var(--accent); }
code { font: .86em/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
body { overflow-wrap: anywhere; }
.soft, caption { color: var(--soft); }
.verdict { display: inline-block; margin: .8rem 0 0; padding: .4rem .8rem; border-radius: .5rem; }
.verified { color: var(--good); background: var(--good-bg); }
.failed { color: var(--bad); background: var(--bad-bg); }
.not-verified { color: var(--warn); background: var(--warn-bg); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1rem; margin: 1.75rem 0 0; }
.tile, article, .table { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; }
.tile { padding: 1rem 1.2rem; }
.tile dt { color: var(--soft); font-size: .85rem; }
.tile dd { margin: 0; }
.big { font-size: 1.3rem; font-weight: 650; font-variant-numeric: tabular-nums; }
.was { color: var(--soft); font-weight: 400; }
.share { display: block; width: 100%; height: 6px; margin-top: .6rem; border-radius: 3px; }
.track { fill: var(--chip); }
.fill { fill: var(--accent); }
nav { margin-top: 1.5rem; }
nav a { margin-right: 1.25rem; }
.table { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding: .75rem 1rem; font-size: .9rem; }
th, td { padding: .45rem 1rem; text-align: left; vertical-align: middle; border-top: 1px solid var(--line); }
thead th, .outcome, .number, .chip { overflow-wrap: normal; }
tbody th, .to { min-width: 12rem; }
thead th { font-size: .8rem; font-weight: 600; color: var(--soft); white-space: nowrap; vertical-align: bottom; }
tbody th { font-weight: 400; }
.outcome { white-space: nowrap; }
td .soft, th .soft, li .soft { font-size: .82rem; }
tbody tr:nth-child(even) { background: var(--stripe); }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.chip { display: inline-block; padding: .05rem .55rem; border-radius: 1rem; font-size: .82rem; white-space: nowrap; }
.chip, .code { background: var(--chip); color: var(--ink); }
.good { color: var(--good); background: var(--good-bg); }
.stays { color: var(--warn); background: var(--warn-bg); }
.wrong { color: var(--bad); background: var(--bad-bg); }
.code { padding: .05rem .4rem; border-radius: .3rem; white-space: nowrap; }
svg { display: block; }
svg text { fill: var(--soft); font-size: 10px; font-weight: 400; }
.bars { fill: var(--accent); }
.dead { fill: var(--bad); }
.axis { fill: none; stroke: var(--soft); opacity: .5; }
article { padding: 1rem 1.2rem; margin: 0 0 1rem; break-inside: avoid-page; }
article dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .3rem 1rem; margin: 0 0 .6rem; }
article dt { color: var(--soft); }
article dd { margin: 0; }
.todo { color: var(--warn); }
.planned { color: var(--soft); background: var(--chip); }
.aside { margin-top: .6rem; }
.aside > summary { color: var(--ink); }
.flag { white-space: nowrap; }
summary { cursor: pointer; color: var(--accent); }
details .table { margin-top: .75rem; }
details ul { margin: .5rem 0 0; padding-left: 1.2rem; columns: 26rem; column-gap: 2rem; }
li { break-inside: avoid; margin-bottom: .2rem; }
:target { outline: 2px solid var(--accent); outline-offset: 4px; }
footer { margin-top: 3rem; font-size: .85rem; color: var(--soft); }
@media (max-width: 52rem) {
  /* A row becomes a small card: nothing has to be scrolled sideways on a telephone. */
  body { padding-inline: 1rem; }
  .table { overflow: visible; background: none; border: 0; }
  table, caption, tbody, tr, th[scope="row"], td { display: block; width: auto; min-width: 0; }
  caption { padding: 0 0 .8rem; }
  thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  tbody tr { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .6rem 1rem; }
  tbody tr + tr { margin-top: .7rem; }
  th, td { border: 0; padding: .2rem 0; }
  .number { text-align: left; white-space: normal; }
  td[data-label] { display: flex; justify-content: space-between; gap: 1rem; }
  td[data-label]:empty { display: none; }
  td[data-label]::before { content: attr(data-label); color: var(--soft); }
  article dl { grid-template-columns: minmax(0, 1fr); gap: .1rem; }
  article dd { margin-bottom: .5rem; }
}
@media print {
  :root { --page: #fff; }
  body { max-width: none; padding: 0; font-size: 11px; }
  nav { display: none; }
  thead { display: table-header-group; }
  tr { break-inside: avoid; }
  details::details-content { content-visibility: visible; height: auto; }
  summary { color: var(--ink); }
}
"""
