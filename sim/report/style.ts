/** The page's style sheet: one column, cards, both colour schemes, from 320 pixels up. */
export const PAGE_STYLE = `
:root{--paper:#f7f7f5;--card:#fff;--ink:#1b1d21;--soft:#5c6068;--line:#e3e3df;--faint:#efefec;--idle:#a9adb4;--warn:#b45309;
--k0:#2563eb;--k1:#e05d10;--k2:#0f9960;--k3:#b5179e;--k4:#7c4dff;--k5:#0891b2;--k6:#a16207;--k7:#dc2626;--gray:#8a8f98}
@media (prefers-color-scheme:dark){:root{--paper:#131519;--card:#1b1e24;--ink:#e9eaec;--soft:#a3a8b1;--line:#30343c;
--faint:#262a31;--idle:#666b74;--warn:#f0b35a;--k0:#6ea8fe;--k1:#ff9e64;--k2:#4fd69c;--k3:#f472d0;--k4:#b197fc;--k5:#3bc9db;--k6:#e0b040;
--k7:#ff7b7b;--gray:#858b95}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
-webkit-text-size-adjust:100%}
main{max-width:1180px;margin:0 auto;padding:40px 24px 72px}
h1{font-size:clamp(26px,4.5vw,40px);line-height:1.15;margin:4px 0 12px;letter-spacing:-.02em;overflow-wrap:anywhere}
h2{font-size:21px;margin:0 0 4px;letter-spacing:-.01em}
section{margin-top:48px}
.over{margin:0;color:var(--k0);font-weight:600;letter-spacing:.02em}
.lead{margin:0 0 14px;color:var(--soft);overflow-wrap:anywhere}
h2+.card,h2+ul{margin-top:12px}
.facts{display:flex;flex-wrap:wrap;gap:6px 8px;margin:0}
.facts span{background:var(--faint);border:1px solid var(--line);border-radius:99px;padding:1px 11px;color:var(--soft);font-size:13.5px}
.warning{color:var(--warn);font-weight:600}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(210px,1fr));gap:12px;margin-top:26px}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:16px 18px}
.tile b{display:block;font-size:29px;line-height:1.2;letter-spacing:-.02em;font-variant-numeric:tabular-nums}
.tile span{color:var(--soft);font-size:13.5px;overflow-wrap:anywhere}
.card{padding:16px 18px;margin:0 0 14px}
.flush{padding:4px 0;overflow-x:auto}
table{width:100%;border-collapse:collapse;font-variant-numeric:tabular-nums}
td,th{padding:9px 10px;text-align:right;border-top:1px solid var(--line);vertical-align:top}
thead th{border-top:0;color:var(--soft);font-weight:500;font-size:13px;vertical-align:bottom}
th:first-child{text-align:left;font-weight:600;padding-left:18px}
td:last-child,th:last-child{padding-right:18px}
td{white-space:nowrap}
th:first-child{min-width:190px}
th small{display:block;color:var(--soft);font-weight:400;font-size:12.5px;line-height:1.35;max-width:280px}
.name{display:flex;align-items:center;gap:8px;overflow-wrap:anywhere}
.swatch{width:22px;height:10px;flex:none}
.swatch path,.curve .line{stroke:var(--c);stroke-width:2.2;fill:none;stroke-linejoin:round;stroke-linecap:round}
.c0{--c:var(--k0)}.c1{--c:var(--k1)}.c2{--c:var(--k2)}.c3{--c:var(--k3)}.c4{--c:var(--k4)}.c5{--c:var(--k5)}.c6{--c:var(--k6)}.c7{--c:var(--k7)}
.central{--c:var(--ink)}.alone{--c:var(--gray)}
.central path,.central .line{stroke-dasharray:7 4}.alone path,.alone .line{stroke-dasharray:1.5 4.5}
.dashed path,.dashed .line{stroke-dasharray:9 3 2 3}
.curve .band{fill:var(--c);opacity:.13;stroke:none}
.curve circle{fill:transparent}
.curve .last{fill:var(--c)}
.curve circle:hover{fill:var(--c)}
.curve{transition:opacity .12s}
figure{margin:0}
figcaption{font-weight:600;margin-bottom:6px}
svg.chart,svg.timeline{display:none;width:100%;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:12px;font-variant-numeric:tabular-nums}
svg .end{text-anchor:end}svg .middle-text{text-anchor:middle}
.grid{stroke:var(--line);stroke-width:1}.axis,.tick{stroke:var(--gray);stroke-width:1;fill:none}
.charts{display:grid;grid-template-columns:1fr 1fr;gap:14px}
.charts .card{margin:0;min-width:0}
.charts .full,.charts .legend,.charts .cut{grid-column:1/-1}.charts .cut{margin:0;color:var(--soft)}
.full .wide,.half .middle,svg.timeline.wide{display:block}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:4px 6px;margin:0;padding:0;font-size:13.5px}
.legend li{display:flex;align-items:center;gap:7px;padding:2px 10px 2px 7px;border-radius:99px}
.charts .legend li{border:1px solid var(--line);background:var(--card);cursor:default}
.charts .legend li:is(:hover,:focus-visible){border-color:var(--c);outline:none}
.plain{margin-bottom:12px}
.box{width:11px;height:11px;border-radius:3px;flex:none}
.bars{list-style:none;margin:0;padding:0;display:grid;gap:14px}
.bars li{display:grid;grid-template-columns:1fr auto;gap:2px 12px;font-variant-numeric:tabular-nums}
.bars span{font-weight:600;overflow-wrap:anywhere}
.bars b{font-weight:500}
.bars small{grid-column:1/-1;color:var(--soft)}
.bar{grid-column:1/-1;display:flex;height:12px;border-radius:4px;overflow:hidden;background:var(--faint)}
.bar i{min-width:2px;flex-basis:0}
.kind-payload{background:var(--k0)}.kind-all-reduce{background:var(--k7)}.kind-gossip{background:var(--k1)}
.kind-direct{background:var(--k4)}.kind-snapshot{background:var(--k2)}.kind-history{background:var(--k6)}
.lane-training{fill:var(--k2);background:var(--k2)}.lane-applying{fill:var(--k4);background:var(--k4)}
.lane-waiting{fill:var(--idle);background:var(--idle)}.lane-paused{fill:var(--k6);background:var(--k6)}
.lane-down{fill:var(--k7);background:var(--k7)}.lane-sending{fill:var(--k1);background:var(--k1)}
.lane-receiving{fill:var(--k0);background:var(--k0)}
.notes{margin:12px 0 0;padding-left:20px;color:var(--soft);max-width:90ch}
.notes li{margin:4px 0}.remarks{color:var(--warn)}.remarks b{font-weight:600}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.5 ui-monospace,"SF Mono",Menlo,"DejaVu Sans Mono",monospace;margin:0}
pre.card{margin-bottom:14px}
summary{cursor:pointer;font-weight:600}
details pre{margin-top:12px}
@media (max-width:1000px){.charts{grid-template-columns:1fr}.full .wide,svg.timeline.wide{display:none}.full .middle,svg.timeline.middle{display:block}
.charts svg.middle{max-width:640px;margin:auto}
thead{display:none}table,tbody{display:block}tr{display:grid;grid-template-columns:repeat(3,1fr);gap:8px 14px;padding:14px 16px;border-top:1px solid var(--line)}
tbody tr:first-child{border-top:0}
th:first-child{grid-column:1/-1;padding:0;min-width:0}td,td:last-child{padding:0;text-align:left;white-space:normal}td,th{border:0}
th small{max-width:none}td::before{content:attr(data-label);display:block;color:var(--soft);font-size:12px}}
@media (max-width:520px){main{padding:24px 14px 48px}section{margin-top:38px}.card{padding:14px}.flush{padding:0}
.full .middle,.half .middle,svg.timeline.middle{display:none}.full .narrow,.half .narrow,svg.timeline.narrow{display:block}
tr{grid-template-columns:1fr 1fr}.tiles{grid-template-columns:1fr 1fr;gap:10px}.tile{padding:12px 14px}.tile b{font-size:24px}}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
`;
