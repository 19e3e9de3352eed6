// SPDX-License-Identifier: Apache-2.0
module;

#include <string_view>

module berth.tool;

namespace tool {

// Colours of engines are those of Okabe and Ito, which people with any colour vision tell apart.
std::string_view report_style() {
  return R"css(
:root { color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --ink: #1b2430; --soft: #5a6675; --line: #d9dee5; --band: #f0f2f5;
  --compute: #0072b2; --copy: #e69f00; --message: #009e73; --read: #cc79a7; --wait: #d1342f; --accent: #0072b2;
  --weights: #3f6fa8; --state: #2a9d8f; --workspace: #8e6bb0; --staging: #e69f00; --free: #e6e9ee; --reserve: #b9c0ca;
  --warn: #8a5a00; --warn-back: #fff6df; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12161c; --card: #1b2129; --ink: #e7ebf0; --soft: #9aa6b4; --line: #313a45; --band: #222a34;
  --compute: #56b4e9; --copy: #f0b429; --message: #2bc795; --read: #dd9bc0; --wait: #ff6b60; --accent: #56b4e9;
  --weights: #5b8fcf; --state: #3bb5a6; --workspace: #a98acb; --staging: #f0b429; --free: #2b343f; --reserve: #4a5563;
  --warn: #ffd27a; --warn-back: #33290f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer { max-width: 1240px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 32px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .25rem; }
h3 { font-size: .95rem; margin: 1.25rem 0 .4rem; }
p { margin: 0 0 .75rem; }
.sub, .hint, footer { color: var(--soft); }
.hint { font-size: .9rem; }
ol.rank + .hint { margin: .9rem 0 0; }
.sub span { white-space: nowrap; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 18px 20px; margin: 18px 0; }
.limit { border-left: 6px solid var(--accent); }
.limit .answer { font-size: 1.3rem; line-height: 1.35; margin: .1rem 0 .8rem; }
.limit .answer strong { color: var(--accent); }
dl.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(175px, 1fr)); gap: 12px; margin: 18px 0; }
dl.tiles div { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 12px 16px; }
dl.tiles dt { color: var(--soft); font-size: .85rem; }
dl.tiles dd { margin: 0; }
dl.tiles dd.figure { font-size: 1.5rem; font-weight: 650; font-variant-numeric: tabular-nums; line-height: 1.3; }
dl.tiles dd.more { color: var(--soft); font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .9rem; padding-bottom: 6px; }
th, td { text-align: right; padding: 5px 10px; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; }
th.t, td.t { text-align: left; }
thead th { color: var(--soft); font-weight: 600; font-size: .85rem; }
tbody th { font-weight: 600; }
td.names { overflow-wrap: anywhere; }
td:not(.t) { white-space: nowrap; }
.scroll { overflow-x: auto; }
.meter { display: inline-block; vertical-align: middle; width: 110px; height: 9px; border-radius: 5px; background: var(--free);
  margin-left: 8px; overflow: hidden; }
.meter i { display: block; height: 100%; background: var(--accent); }
ol.rank { list-style: none; margin: 0; padding: 0; display: grid; grid-template-columns: max-content 1fr max-content;
  gap: 6px 12px; align-items: center; }
ol.rank li { display: contents; }
ol.rank .track { height: 12px; border-radius: 6px; background: var(--free); overflow: hidden; }
ol.rank .track i { display: block; height: 100%; }
ol.rank b { font-variant-numeric: tabular-nums; font-weight: 600; text-align: right; }
ul.key { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 0 0 .5rem; padding: 0; font-size: .88rem;
  color: var(--soft); }
ul.key i { display: inline-block; width: 12px; height: 12px; border-radius: 3px; margin-right: 6px; vertical-align: -1px; }
.c-compute { background: var(--compute); } .c-copy { background: var(--copy); } .c-message { background: var(--message); }
.c-read { background: var(--read); } .c-wait { background: var(--wait); } .c-segment { background: var(--soft); }
.c-weights { background: var(--weights); } .c-state { background: var(--state); } .c-workspace { background: var(--workspace); }
.c-staging { background: var(--staging); } .c-free { background: var(--free); } .c-reserve { background: var(--reserve); }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; }
svg.timeline, svg.bars { min-width: 900px; }
svg text { fill: var(--ink); }
svg .label, svg .budget { text-anchor: end; }
svg .phase { font-weight: 600; }
svg text.tick, svg .curve text { fill: var(--soft); font-size: 11.5px; }
svg line.tick { stroke: var(--soft); }
svg .band0 { fill: var(--band); } svg .band1 { fill: none; stroke: var(--line); }
svg .compute { fill: var(--compute); } svg .copy { fill: var(--copy); } svg .message { fill: var(--message); }
svg .read { fill: var(--read); } svg .wait { fill: var(--wait); }
svg .m-weights { fill: var(--weights); } svg .m-state { fill: var(--state); } svg .m-workspace { fill: var(--workspace); }
svg .m-staging { fill: var(--staging); } svg .m-free { fill: var(--free); } svg .m-reserve { fill: var(--reserve); }
svg text.inside { fill: #fff; font-weight: 600; } svg text.in-free { fill: var(--ink); font-weight: 400; }
svg text.in-staging, svg text.in-reserve { fill: #1b2430; }
svg .grid { stroke: var(--line); } svg .held { fill: none; stroke: var(--weights); stroke-width: 2; }
svg .area { fill: var(--weights); opacity: .16; } svg line.budget { stroke: var(--wait); stroke-dasharray: 6 4; stroke-width: 1.5; }
svg text.budget { fill: var(--wait); font-size: 12px; }
.curves { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 8px 24px; }
figure { margin: 0; } figcaption { font-weight: 600; font-size: .95rem; margin-top: .75rem; }
.warnings { background: var(--warn-back); } .warnings li { color: var(--warn); overflow-wrap: anywhere; }
footer { padding-bottom: 40px; font-size: .85rem; }
@media (max-width: 640px) { main, header, footer { padding-left: 12px; padding-right: 12px; } section { padding: 14px 12px; }
  .curves { grid-template-columns: 1fr; } }
@media print {
  :root { color-scheme: light;
    --page: #fff; --card: #fff; --ink: #000; --soft: #444; --line: #bbb; --band: #f0f2f5;
    --compute: #0072b2; --copy: #e69f00; --message: #009e73; --read: #cc79a7; --wait: #d1342f; --accent: #0072b2;
    --weights: #3f6fa8; --state: #2a9d8f; --workspace: #8e6bb0; --staging: #e69f00; --free: #e6e9ee; --reserve: #b9c0ca;
    --warn: #6b4600; --warn-back: #fff; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  body { background: #fff; font-size: 10.5pt; }
  main, header, footer { max-width: none; padding: 0 2px; }
  section, dl.tiles div { border-radius: 0; }
  section { margin: 10px 0; padding: 10px 12px; }
  .scroll { overflow: visible; } svg.timeline, svg.bars { min-width: 0; }
  .whole, dl.tiles, figure, tr, ul.key { break-inside: avoid; }
  h2, h3, caption, ul.key { break-after: avoid; }
  .curves { grid-template-columns: 1fr 1fr; }
  table { font-size: 9pt; } th, td { padding: 4px 6px; } .meter { width: 50px; }
  thead { display: table-header-group; }
}
@page { margin: 14mm; }
)css";
}

}  // namespace tool
