/* Bundled by esbuild from workbench/ui/frontend/src; sha256 7412f084aca00c8bca5fc7e5e21836e46a4004da3f1f824796de3dac2e0b992d */
function element(tag,name="",properties={},...children){const made2=Object.assign(document.createElement(tag),properties);
if(name)made2.className=name;made2.append(...children);return made2}function waiting(){const made2={started:false};made2.promise=new Promise((resolve,reject)=>Object.assign(made2,{resolve,
reject}));made2.promise.catch(()=>{});return made2}function sharedPlotly(){const page=globalThis;page.arrowquantPlotly??=
waiting();return page.arrowquantPlotly}function colour(element2,name,fallback){return getComputedStyle(element2).getPropertyValue(name).trim()||fallback}function themed(layout,element2){
const text2=colour(element2,"--aq-ink","#222");const grid=colour(element2,"--aq-line","#ddd");const ground=colour(element2,
"--aq-shade","#fff");const axis={color:text2,gridcolor:grid,zerolinecolor:grid,linecolor:grid};const changed={...layout,
paper_bgcolor:"rgba(0,0,0,0)",plot_bgcolor:"rgba(0,0,0,0)",font:{...layout.font,color:text2,size:11},hoverlabel:{bgcolor:ground,
bordercolor:grid,font:{color:text2}},legend:{...layout.legend,bgcolor:"rgba(0,0,0,0)"}};if(layout.shapes){changed.shapes=
layout.shapes.map(shape=>({...shape,line:{color:text2,...shape.line}}))}for(const key of Object.keys(layout)){if(/^[xy]axis\d*$/.
test(key))changed[key]={...layout[key],...axis}}return changed}var INK=new Set(["black","#555555"]);function inked(data,element2){
const text2=colour(element2,"--aq-ink","#222");return data.map(trace=>{const changed={...trace};for(const part of["marke\
r","line"]){if(INK.has(trace[part]?.color??""))changed[part]={...trace[part],color:text2}}return changed})}var layerOf=custom=>Array.
isArray(custom)?custom[0]:custom;function marked(data,layout,chosen){if(!chosen.length)return{data,layout};const names=new Set(
chosen);const shapes=[...layout.shapes??[]];const traces=data.map(trace=>{if(trace.type==="heatmap"){for(const name of chosen.
slice(0,50)){const row=trace.y?.indexOf(name)??-1;if(row>=0){shapes.push({type:"rect",xref:"paper",x0:0,x1:1,y0:row-.5,y1:row+
.5,line:{width:2}})}}return trace}if(!Array.isArray(trace.customdata))return trace;const selectedpoints=trace.customdata.
flatMap((custom,index)=>names.has(layerOf(custom))?[index]:[]);const selected={marker:{size:1.7*(trace.marker?.size??8)}};
return{...trace,selectedpoints,selected,unselected:{marker:{opacity:1}}}});return{data:traces,layout:{...layout,shapes}}}
var turn=Promise.resolve();var Chart=class{chosen=[];text;spec=null;plotly;due=false;drawn=false;closed=false;constructor({
label,height,onClick}){this.onClick=onClick;this.waiting=element("div","aq-chart-waiting",{textContent:"drawing …"});this.
root=element("div","aq-chart",{},this.waiting);this.root.setAttribute("role","img");this.root.setAttribute("aria-label",
label);this.root.style.height=`${height}px`;this.later=()=>{if(this.due)return;this.due=true;turn=turn.then(()=>new Promise(
next=>setTimeout(next))).then(()=>this.draw()).catch(error=>this.fail(error))};this.sizes=new ResizeObserver(this.later);
this.sizes.observe(this.root);sharedPlotly().promise.then(plotly=>{this.plotly=plotly;this.later()},error=>this.fail(error))}fail(error){
const reason=error instanceof Error?error.message:error;this.waiting.textContent=`The chart cannot be drawn: ${reason}. \
Run the cell again.`;this.root.append(this.waiting)}show(text2){if(text2===this.text)return;this.text=text2;this.spec=text2?
JSON.parse(text2):null;this.later()}mark(names){this.chosen=names;if(this.drawn)this.later()}draw(){this.due=false;const{
root,plotly,spec}=this;if(this.closed||!plotly||!spec||!root.clientWidth)return;const{data,layout}=marked(spec.data,spec.
layout,this.chosen);const size2={width:root.clientWidth,height:root.clientHeight,autosize:false};this.waiting.remove();plotly.
react(root,inked(data,root),{...themed(layout,root),...size2},{...spec.config,responsive:false});if(!this.drawn){const chart=root;
chart.on("plotly_click",({points:[{x,y,customdata,data:trace}]})=>{this.onClick?.({x,y,customdata,name:trace.name??""})})}
this.drawn=true;root.dataset.drawn=String(Number(root.dataset.drawn??0)+1)}close(){this.closed=true;this.sizes.disconnect();
if(this.drawn)this.plotly?.purge(this.root)}};var WHOLE=new Intl.NumberFormat("en-US");var whole=value=>WHOLE.format(value);var fixed=digits=>value=>Number.isFinite(value)?
value.toFixed(digits):blank(value);function significant(value){if(!Number.isFinite(value))return blank(value);const size2=Math.
abs(value);if(size2===0)return"0";if(size2>=1e6||size2<.001)return value.toExponential(2).replace("e-","e−").replace("\
e+","e");return size2>=1e3?value.toFixed(0):value.toPrecision(3)}function blank(value){if(Number.isNaN(value))return"";return value>
0?"∞":"−∞"}var UNITS=[["TB",1e12],["GB",1e9],["MB",1e6],["kB",1e3]];function size(bytes){for(const[unit,scale]of UNITS){
if(bytes>=scale)return`${(bytes/scale).toFixed(3)} ${unit}`}return`${whole(bytes)} B`}var percent=value=>Number.isFinite(
value)?`${(Math.ceil(1e4*value-1e-6)/100).toFixed(2)} %`:blank(value);var LENGTHS=[Infinity,14,11,9,7,6,5,4,3];var SHORT=5;var MANY=1500;var MARGIN=18;var MEASURED=40;var ShortNames=class{looks=new Map;level=0;width=0;font;pen=null;constructor(names){
const bare=names.map(name=>name.replace(/\.weight$/,""));const whole2=new Set(bare).size===names.length?bare:names;this.
joint=whole2.some(name=>name.includes("."))?".":"_";this.parts=whole2.map(name=>name.split(this.joint));const shared=commonParts(
this.parts);this.prefix=shared.join(this.joint);if(this.prefix.length>3)this.parts=this.parts.map(parts=>parts.slice(shared.
length));else this.prefix="";this.words=[...new Set(this.parts.flat())]}look(level){let found=this.looks.get(level);if(!found){
const written=new Map(this.words.map(word=>[word,shortened(word,LENGTHS[level],this.words)]));const text2=part=>written.
get(part)??part;const write=parts=>parts.map(text2).join(this.joint);const longest=this.parts.map(parts=>({parts,letters:parts.
reduce((sum,part)=>sum+text2(part).length+1,0)})).sort((one,other)=>other.letters-one.letters).slice(0,MEASURED);const width=Math.
ceil(Math.max(0,...longest.map(({parts})=>this.measure(write(parts)))))+MARGIN;found={write,width};this.looks.set(level,
found)}return found}fit(room,table,chosen){const heading=this.prefix?this.measure(`layer  ${this.prefix}.…`)+2*MARGIN:
0;const[most,least]=[Math.max(heading,this.look(0).width),this.look(LENGTHS.length-1).width];const wanted=chosen??(room>=
least?Math.min(room,most):Math.min(most,.4*table));const width=Math.max(least,Math.floor(wanted));const level=LENGTHS.findIndex(
(_,place)=>this.look(place).width<=width);const changed=level!==this.level||level>0&&width!==this.width;Object.assign(this,
{level,width});return{width,changed}}text(row){const full=this.parts[row].join(this.joint);if(!this.level||this.measure(
full)+MARGIN<=this.width)return full;return this.look(this.level).write(this.parts[row])}measure(text2){this.pen??=document.
createElement("canvas").getContext("2d");this.pen.font=this.font??"12px system-ui, sans-serif";return this.pen.measureText(
text2).width}setFont(font){if(font===this.font)return;this.font=font;this.looks.clear()}};function commonParts(names){if(names.
length<2)return[];const[first]=names;let count=Math.min(...names.map(parts=>parts.length))-1;for(const parts of names){for(let place=0;place<
count;place++)if(parts[place]!==first[place])count=place}return first.slice(0,Math.max(0,count))}function shortened(word,most,words){
if(word.length<=Math.max(most,SHORT)||words.length>MANY)return word;for(let tail=0;tail<=3;tail++){const head=most-1-tail;
if(head<1)break;const[start,end]=[word.slice(0,head),tail?word.slice(-tail):""];const isAlike=other=>other!==word&&other.
length>head+tail&&other.startsWith(start)&&other.endsWith(end);if(!words.some(isAlike))return`${start}…${end}`}return shortened(
word,most+1,words)}var known=new WeakMap;function shortNamesOf(plan){const found=known.get(plan)??new ShortNames(plan.names);
known.set(plan,found);return found}var TERMS={D:"damage: relative error power that a layer's codes cause, at the model's output where a calibration knows i\
t",heat:"damage that each bit more would save this layer; above T (in amber) it deserves more bits, below it can give so\
me away",S:"entropy of the choice: high where several widths are about equally good, so that you may choose; 0 where one\
 is clearly best",T:"temperature, the price of a bit: damage given up for each bit saved; a higher T makes a smaller fil\
e",gap:"optimality gap: at most so much better is the best plan of this size (Lagrangian bound)"};var WIDTHS={2:["#b32dc0","●"],3:["#5361f3","■"],4:["#157bca","◆"],5:["#1289a1","▲"],6:["#11964f","▼"],7:["#8a8\
e0b","⬟"],8:["#e8680b","★"]};var KEPT=["#808080","✕"];var labelOf=hint=>hint.split(":")[0];var number=(key,title,hint,width,value,format)=>({
key,title,label:labelOf(hint),hint,width,value,right:true,draw:(cell,plan,row)=>{cell.textContent=format(value(plan,row))}});
var byNumbers=new Intl.Collator("en",{numeric:true}).compare;var text=(key,title,hint,width,value)=>({key,title,label:labelOf(
hint),hint,width,value,draw:(cell,plan,row)=>{cell.textContent=value(plan,row)}});function columnsOf(plan){const{fixed:still}=plan;
const names=shortNamesOf(plan);const bits={key:"bits",title:"bits",hint:"bits: width of the layer's codes; click to choo\
se",width:140,value:(p,row)=>p.shown.bits[row],draw:drawBits};const heat={...number("heat","heat",`heat: ${TERMS.heat}`,
76,(p,row)=>p.shown.heat[row],significant),draw:drawHeat};const time=still.importance?[number("importance","κ","κ, impo\
rtance: how much the model's output feels an error of this layer",72,(_,row)=>still.importance[row],significant),number(
"heterogeneity","V","V, heterogeneity: variance of the input's level over time groups",72,(_,row)=>still.heterogeneity[row],
significant)]:[];return[{key:"locked",title:"",label:"lock",hint:"lock: a solver leaves the layer as it is",width:30,value:(p,row)=>p.
shown.locked[row],draw:drawLock},{...text("name","layer",`layer: its name${names.prefix?`, after ${names.prefix}.`:""}`,
236,(p,row)=>p.names[row]),sticky:true,compare:byNumbers,note:names.prefix&&`${names.prefix}.…`,fit:(room,table,chosen)=>names.
fit(room,table,chosen),setFont:font=>names.setFont(font),draw:(cell,p,row)=>drawName(cell,names,p,row)},bits,number("dam\
age","damage",`damage D: ${TERMS.D.replace("damage: ","")}`,76,(p,row)=>p.shown.damage[row],significant),number("nbytes",
"bytes","bytes: exact bytes of the layer's data",88,(p,row)=>p.shown.nbytes[row],whole),heat,text("role","role","role: w\
hat the layer is for",100,(p,row)=>p.roles[still.role[row]]),{...text("shape","shape","shape: of the tensor, rows × colu\
mns; sorts by number of weights",92,(p,row)=>p.shapes[row]),right:true,value:(_,row)=>still.params[row]},number("params",
"params","params: number of weights",84,(_,row)=>still.params[row],whole),number("bpw","bpw","bpw: bits per weight, scal\
es included",58,(p,row)=>8*p.shown.nbytes[row]/still.params[row],fixed(3)),...time,number("entropy","Ĥ","Ĥ, entropy of \
the weights: 0 to 1, of their histogram; low where a few weights are far out",52,(_,row)=>still.entropy[row],fixed(3)),number(
"code_entropy","H(q)","H(q), code_entropy: bits per weight that a lossless coder would need for the codes",54,(p,row)=>p.
shown.code_entropy[row],fixed(3)),number("choice_entropy","S",`S, choice_entropy: ${TERMS.S}`,52,(p,row)=>p.choiceEntropy[row],
fixed(3)),...plan.columns.map(column=>({...number(`=${column.title}`,column.title,column.error??`= ${column.expression}`,
92,(p,row)=>p.columns.find(one=>one.title===column.title)?.values?.[row]??NaN,column.kind==="truth"?value=>value?"✓":"":
significant),label:column.title,custom:true}))]}function arranged(columns,order,hidden){const keys=order.filter(key=>columns.
some(column=>column.key===key));columns.forEach(({key},place)=>{if(keys.includes(key))return;keys.splice(place?keys.indexOf(
columns[place-1].key)+1:0,0,key)});const byKey=new Map(columns.map(column=>[column.key,column]));return keys.flatMap(key=>hidden.
includes(key)?[]:byKey.get(key)??[])}function drawName(cell,names,plan,row){cell.textContent=names.text(row);cell.title=
plan.names[row];cell.setAttribute("aria-label",plan.names[row])}function drawLock(cell,plan,row){const button2=cell.firstElementChild??
cell.appendChild(element("button","aq-lock",{tabIndex:-1,type:"button"}));const locked=plan.shown.locked[row]===1;button2.
setAttribute("aria-pressed",locked);button2.setAttribute("aria-label",`${locked?"unlock":"lock"} ${plan.names[row]}`)}function drawHeat(cell,plan,row){
const heat=plan.shown.heat[row];cell.textContent=significant(heat);cell.classList.toggle("aq-hot",heat>1.001*plan.confirmed.
temperature&&!plan.shown.locked[row])}function bitsButton(){const button2=element("button","aq-bits",{tabIndex:-1,type:"\
button"});button2.setAttribute("aria-haspopup","menu");button2.append(element("span","aq-swatch"),element("b"),element("\
small"),element("i"));return button2}function drawBits(cell,plan,row){const button2=cell.firstElementChild??cell.appendChild(
bitsButton());const[swatch,bits,scheme]=button2.children;const kept=plan.kept(row);paint(swatch,plan.shown.bits[row],kept);
bits.textContent=String(plan.shown.bits[row]);const asked=plan.askedInstead(row);const given=schemeOf(plan,plan.shown.scheme[row],
plan.shown.group[row]);scheme.textContent=asked?`${asked} → ${given}`:given;const title=asked?`${asked} bits were aske\
d for; there are none here, so it is ${given}`:"";if(cell.title!==title)cell.title=title}var schemeOf=(plan,scheme,group2)=>nameOfScheme(
plan.schemes[scheme],group2);var SHORT_SCHEMES={keep:"kept",asymmetric:"asym",symmetric:"sym"};function nameOfScheme(scheme,group2){
const name=SHORT_SCHEMES[scheme]??scheme;return group2?`${name} ${group2}`:name}function paint(swatch,bits,kept){const[colour2,
glyph]=!kept&&WIDTHS[bits]||KEPT;swatch.textContent=glyph;swatch.style.background=colour2;swatch.classList.toggle("aq-li\
ght",kept||bits>5)}var button=(text2,title,onClick,name="")=>{const made2=element("button",`aq-button ${name}`,{type:"button",title});made2.
append(text2);made2.setAttribute("aria-label",title);made2.addEventListener("click",onClick);return made2};var Bar=class{title=element(
"input","",{placeholder:"title",size:10,maxLength:40,spellcheck:false});expression=element("input","aq-expression",{placeholder:"\
expression, such as 1e9 * damage / nbytes",maxLength:1e3,spellcheck:false});constructor(acts){this.filter=element("input",
"aq-filter",{type:"search",spellcheck:false,placeholder:"filter: attn q, role:mlp*, bits < 4",title:"words in name and r\
ole; or a condition: column headings, globs on names, role:…, joined by and, or, not, such as *to_q* and damage > 0.01; \
after = for any (/)"});this.filter.setAttribute("aria-label","filter layers");this.fault=element("div","aq-fault",{hidden:true,
id:`aq-fault-${Math.random().toString(36).slice(2)}`});this.filter.setAttribute("aria-describedby",this.fault.id);this.again=
button("↻","filter and sort again by what the layers are now",acts.again,"aq-again");this.count=element("span","aq-cou\
nt");this.edits=[2,3,4,5,6,7,8].map(bits=>{const swatch=element("span","aq-swatch");paint(swatch,bits,false);const made2=button(
swatch,`${bits} bits (${bits})`,()=>acts.edit("bits",bits),"aq-width");made2.append(`${bits}`);made2.dataset.bits=String(
bits);return made2});this.edits.push(button("keep","keep the source dtype (K)",()=>acts.edit("keep"),"aq-keep"),button("\
lock","lock or unlock (L)",()=>acts.edit("toggle"),"aq-toggle"));this.undo=button("↶","undo (Ctrl+Z)",()=>acts.edit("u\
ndo"),"aq-undo");this.redo=button("↷","redo (Ctrl+Shift+Z)",()=>acts.edit("redo"),"aq-redo");this.arrange=button("colu\
mns","show, hide and order the columns",acts.arrange,"aq-arrange");this.arrange.setAttribute("aria-haspopup","menu");this.
add=button("+ column","add a column by an expression",()=>this.toggleForm(),"aq-add");this.form=this.makeForm(acts.addColumn);
const bulk=element("div","aq-bulk",{},this.count,...this.edits);bulk.setAttribute("role","group");bulk.setAttribute("ari\
a-label","edit the chosen layers");this.rest=element("div","aq-rest",{},this.undo,this.redo,this.arrange,this.add);this.
root=element("div","aq-bar",{},element("div","aq-filters",{},this.filter,this.again),bulk,this.rest,this.form,this.fault)}makeForm(addColumn){
this.title.setAttribute("aria-label","title of the column");this.expression.setAttribute("aria-label","expression of the\
 column");const submit=()=>addColumn(this.title.value.trim(),this.expression.value.trim());const form=element("div","aq-\
form",{hidden:true},this.title,"=",this.expression,button("add","add the column",submit));form.addEventListener("keydown",
event=>{if(event.key==="Enter")submit();if(event.key==="Escape")this.toggleForm(false)});return form}toggleForm(show=this.
form.hidden){this.form.hidden=!show;this.complain("");if(show)this.title.focus();else this.add.focus()}complain(text2){this.
fault.textContent=text2;this.fault.hidden=!text2;this.filter.setAttribute("aria-invalid",Boolean(text2)&&this.form.hidden)}showWidths(plan,rows){
for(const edit of this.edits){const bits=Number(edit.dataset.bits);if(!bits)continue;const has=plan.has(rows,bits);const given=has?
"":plan.instead(rows,bits).map(({text:text2})=>text2).join(" or ");const title=has?`${bits} bits (${bits})`:`no ${bits} \
bits here: gives ${given}`;edit.classList.toggle("aq-lacking-width",!has);if(edit.title===title)continue;edit.title=title;
edit.setAttribute("aria-label",title)}}update({chosen,hidden,subject,stale,canUndo,canRedo,dead}){const beside=hidden?` \
· ${whole(hidden)} hidden`:"";this.count.textContent=chosen?`${whole(chosen)} chosen${beside}`:"";this.count.title=hidden?
"edits leave alone what the filter hides":"";for(const edit of this.edits)edit.disabled=dead||!subject;this.undo.disabled=
dead||!canUndo;this.redo.disabled=dead||!canRedo;this.again.hidden=!stale}};var Strip=class{constructor(onDismiss=()=>{}){
this.text=element("span");this.root=element("div","aq-strip",{hidden:true},this.text,button("×","dismiss",()=>{this.say(
"");onDismiss()},"aq-dismiss"))}say(text2,kind="error"){this.root.setAttribute("role",kind==="note"?"status":"alert");this.
text.textContent=text2;this.root.hidden=!text2;this.root.dataset.kind=kind}over(){if(["error","note"].includes(this.root.
dataset.kind??""))this.say("")}end(kind){if(this.root.dataset.kind===kind)this.say("")}};var PARTS=[["nbytes","size","by\
tes of the payload",size],["ratio","ratio","source bytes over payload bytes",value=>`${fixed(2)(value)}×`],["bpw","bpw",
"bits per layer weight, scales included",fixed(3)],["damage","ΣD","predicted damage, Σ D over the layers",significant],
["gap","gap ≤",TERMS.gap,percent],["temperature","T",TERMS.T,significant],["below","cosine <","layers whose cosine is \
below the least one wanted",whole],["locks","locked","layers that a solver leaves as they are",whole]];var Totals=class{constructor(){
this.values=Object.fromEntries(PARTS.map(([key])=>[key,element("b")]));this.labels={};this.shown=element("span","aq-show\
n");this.root=element("div","aq-totals",{},...PARTS.map(([key,label,title])=>{this.labels[key]=element("span","",{textContent:label});
const part=element("span","aq-total",{title},this.labels[key],this.values[key]);part.dataset.total=key;return part}),this.
shown)}update(totals,minCosine,shown,count,waiting2){for(const[key,,,format]of PARTS)this.values[key].textContent=format(
totals[key]);this.labels.below.textContent=`cosine < ${minCosine}`;this.root.classList.toggle("aq-estimate",totals.estimate);
const rows=shown===count?`${whole(count)} layers`:`${whole(shown)} of ${whole(count)} layers`;this.shown.textContent=waiting2?
`${rows} · ${waiting2} ${waiting2>1?"edits wait":"edit waits"}`:rows}};async function copied(text2){try{await navigator.clipboard.writeText(text2)}catch{const area=element("textarea","",{value:text2});
Object.assign(area.style,{position:"fixed",opacity:"0"});document.body.append(area);area.select();document.execCommand("\
copy");area.remove()}}var copier=(said,text2)=>async()=>{await copied(text2());said.textContent="copied";setTimeout(()=>{
said.textContent=""},1500)};var Snippet=class{folder="";constructor(){this.said=element("span","aq-copied");this.said.setAttribute(
"role","status");this.text=element("div","aq-written");this.lines=element("pre","aq-lines");this.root=element("div","aq-\
done",{hidden:true},this.text,this.lines,button("Copy","Copy the lines that load the export",copier(this.said,()=>this.lines.
textContent)),this.said)}show(exported){this.root.hidden=!exported;if(!exported)return;this.folder=exported.folder;this.
text.textContent=exported.text;this.lines.textContent=exported.lines}};var ScriptLine=class{lines=[];constructor(opening){
this.opening=opening;this.line=element("code");this.said=element("span","aq-copied");this.said.setAttribute("role","stat\
us");this.root=element("div","aq-script",{},this.line,button("Copy as Python","Copy the last line",copier(this.said,()=>this.
lines.at(-1)??"")),button("Copy all","Copy all lines from opening the session on",copier(this.said,()=>["import workbenc\
h as wb","",this.opening,...this.lines].join("\n"))),this.said)}add(lines,base){this.lines.splice(base,Infinity,...lines);
const last=this.lines.at(-1)??"";this.line.textContent=last||"# nothing was changed yet";this.line.title=this.root.dataset.
last=last}};var LOOKS=[50,200,600,1500,4e3];function followTheme(root,onChange=()=>{}){const page=root.ownerDocument;let known2="";let timers=[];
const look=()=>{const{backgroundColor:paper,color:ink}=getComputedStyle(root);if(known2===paper+ink)return;const[red,green,
blue]=paper.match(/[\d.]+/g)?.map(Number)??[255,255,255];root.dataset.theme=.299*red+.587*green+.114*blue<128?"dark":"li\
ght";if(known2)onChange();known2=paper+ink};const lookOften=()=>{for(const timer of timers)clearTimeout(timer);requestAnimationFrame(
look);timers=LOOKS.map(wait=>setTimeout(look,wait))};const watch=new MutationObserver(lookOften);watch.observe(page.body,
{attributes:true});watch.observe(page.documentElement,{attributes:true});const query=matchMedia("(prefers-color-scheme: \
dark)");query.addEventListener("change",look);requestAnimationFrame(look);return()=>{for(const timer of timers)clearTimeout(
timer);watch.disconnect();query.removeEventListener("change",look)}}var Meter=class{constructor(onCancel){this.bar=element("progress","",{max:1});this.bar.setAttribute("aria-label","progre\
ss");this.text=element("span","aq-job");this.cancel=button("Cancel","Cancel the job",onCancel);this.root=element("div","\
aq-jobs",{},this.bar,this.text,this.cancel)}show(job){this.bar.value=job.fraction;this.text.textContent=job.text;this.cancel.
disabled=job.stopping}};var JobBar=class{job=null;inSight=true;unfollowTheme=()=>{};constructor(panel,onCancel){this.here=
new Meter(onCancel);this.root=this.here.root;this.root.hidden=true;this.away=new Meter(onCancel);this.back=button("Show",
"Scroll to the panel",()=>panel().scrollIntoView({block:"start"}));this.edge=element("div","aq-view aq-edge",{},this.away.
root,this.back);this.edge.setAttribute("role","group");this.edge.setAttribute("aria-label","the job that runs");this.sight=
new IntersectionObserver(entries=>{this.inSight=entries[entries.length-1].isIntersecting;this.place()});this.sight.observe(
this.root)}show(job,place){this.job=job;this.root.hidden=!job;if(this.root.parentNode!==place)place.append(this.root);if(job){
this.here.show(job);this.away.show(job)}this.place()}place(){const away=Boolean(this.job)&&!this.inSight;this.back.hidden=
!this.root.isConnected;if(away===this.edge.isConnected)return;if(away){this.root.ownerDocument.body.append(this.edge);this.
unfollowTheme=followTheme(this.edge)}else this.leave()}leave(){this.unfollowTheme();this.edge.remove()}close(){this.sight.
disconnect();this.leave()}};function keyOf(event){const command=event.ctrlKey||event.metaKey;const key=event.key.length===1?event.key.toLowerCase():
event.key;if(command&&event.altKey)return null;if(command){if(key==="a")return{act:"all"};if(key==="y"||key==="z")return{
act:"edit",action:key==="y"||event.shiftKey?"redo":"undo"};if(!["Home","End","ArrowUp","ArrowDown"," "].includes(key))return null}
if(event.altKey)return key==="ArrowDown"?{act:"menu"}:null;switch(key){case"ArrowUp":return{act:"move",by:command?-Infinity:
-1};case"ArrowDown":return{act:"move",by:command?Infinity:1};case"Home":return{act:"move",by:-Infinity};case"End":return{
act:"move",by:Infinity};case"PageUp":return{act:"page",by:-1};case"PageDown":return{act:"page",by:1};case" ":return{act:"\
toggle"};case"Enter":case"F2":return{act:"menu"};case"Escape":return{act:"clear"};case"/":return{act:"filter"};case"l":return{
act:"edit",action:"toggle"};case"k":return{act:"edit",action:"keep"}}return/^[2-8]$/.test(key)?{act:"edit",action:"bits",
bits:Number(key)}:null}var ALONG_ROW={ArrowLeft:-1,ArrowRight:1};var ALONG_COLUMN={ArrowUp:-1,ArrowDown:1};var KEY="aq-k\
eydown";var isText=target=>target instanceof Element&&target.matches("input:read-write");function isOurs(event){const command=event.
ctrlKey||event.metaKey;if(!command&&!event.altKey)return true;return isText(event.target)?command&&/^[azycxv]$/i.test(event.
key):keyOf(event)!==null}function keepKeys(root){const view=root.ownerDocument.defaultView;const hear=event=>{const target=event.
target;if(!root.contains(target)||isText(target)||!isOurs(event))return;event.stopImmediatePropagation();const{key,code,
ctrlKey,shiftKey,altKey,metaKey,repeat}=event;const told={key,code,ctrlKey,shiftKey,altKey,metaKey,repeat,bubbles:true,cancelable:true};
if(!target.dispatchEvent(new KeyboardEvent(KEY,told)))event.preventDefault()};const hearText=event=>isOurs(event)&&event.
stopPropagation();view.addEventListener("keydown",hear,true);root.addEventListener("keydown",hearText);return()=>{view.removeEventListener(
"keydown",hear,true);root.removeEventListener("keydown",hearText)}}var MOVES={...ALONG_ROW,"<":-1,">":1};var ColumnMenu=class{columns=[];hidden=new Set;constructor(root,onChange,onClose){
this.root=root;this.onChange=onChange;this.onClose=onClose;this.box=element("div","aq-menu aq-column-menu",{hidden:true});
this.box.setAttribute("role","menu");this.box.setAttribute("aria-label","columns");this.box.addEventListener(KEY,event=>this.
key(event));root.append(this.box);root.addEventListener("pointerdown",event=>{if(!this.box.hidden&&!this.box.contains(event.
target))this.hide()})}show(columns,hidden,key,anchor){this.columns=columns;this.hidden=new Set(hidden);this.draw(key??columns[0].
key);this.box.hidden=false;const[frame,place]=[this.root.getBoundingClientRect(),anchor.getBoundingClientRect()];this.box.
style.maxHeight=`${Math.max(120,frame.bottom-place.bottom-8)}px`;const left=Math.max(4,Math.min(place.left-frame.left,frame.
width-this.box.offsetWidth-4));Object.assign(this.box.style,{left:`${left}px`,top:`${place.bottom-frame.top}px`});this.focus(
key??columns[0].key)}hide(){this.box.hidden=true}draw(key){const items=this.columns.map(column=>{const shown=!this.hidden.
has(column.key);const name=column.label??column.title;const move=(step,sign,side)=>{const made2=element("button","aq-mov\
e",{type:"button",tabIndex:-1,textContent:sign,title:`move ${name} to the ${side}`});made2.setAttribute("aria-label",made2.
title);made2.addEventListener("click",()=>this.move(column.key,step));return made2};const tick=element("span","aq-tick",
{textContent:shown?"✓":""});tick.setAttribute("aria-hidden",true);const item=element("button","aq-item",{type:"button",
tabIndex:column.key===key?0:-1,title:column.hint},tick,name);item.dataset.key=column.key;item.setAttribute("role","menui\
temcheckbox");item.setAttribute("aria-checked",shown);item.setAttribute("aria-keyshortcuts","ArrowLeft ArrowRight");item.
disabled=column.key==="name";item.addEventListener("click",()=>this.toggle(column.key));const line=element("div","aq-lin\
e",{},item,move(-1,"←","left"),move(1,"→","right"));line.setAttribute("role","none");return line});const reset=element(
"button","aq-item",{type:"button",tabIndex:-1,textContent:"All columns, as they were"});reset.setAttribute("role","menui\
tem");reset.addEventListener("click",()=>{this.hide();this.onChange([],[]);this.onClose()});this.box.replaceChildren(...items,
reset)}items(){return[...this.box.querySelectorAll("button")].filter(one=>one.matches(".aq-item:not(:disabled)"))}focus(key){
const items=this.items();(items.find(item=>item.dataset.key===key)??items[0]).focus()}toggle(key){if(!this.hidden.delete(
key))this.hidden.add(key);this.changed(key)}move(key,step){const keys=this.columns.map(column=>column.key);const to=Math.
max(0,Math.min(keys.length-1,keys.indexOf(key)+step));this.columns=arranged(this.columns,moved(keys,key,to),[]);this.changed(
key)}changed(key){this.onChange(this.columns.map(column=>column.key),[...this.hidden]);this.draw(key);this.focus(key)}key(event){
const items=this.items();const target=event.target;const place=items.indexOf(target);const step=ALONG_COLUMN[event.key];
const side=MOVES[event.key];if(step)items[(place+step+items.length)%items.length].focus();else if(side&&target.dataset.key)
this.move(target.dataset.key,side);else if(event.key==="Home")items[0].focus();else if(event.key==="End")items.at(-1)?.focus();else if(event.
key==="Escape"||event.key==="Tab"){this.hide();this.onClose(target.dataset.key)}else if(event.key==="Enter"||event.key===
" ")target.click();else return;event.preventDefault();event.stopPropagation()}};function moved(keys,key,to){const others=keys.
filter(one=>one!==key);return[...others.slice(0,to),key,...others.slice(to)]}var textOf=output=>[output.data?.["text/html"]??""].flat().join("");function put(notebook,name,content){const cells=notebook?.
cells;for(let place=0;cells&&place<cells.length;place++){const{outputs}=cells.get(place);for(let which=0;outputs&&which<
outputs.length;which++){const shown=textOf(outputs.get(which));if(!shown.includes(name)||shown===textOf(content))continue;
outputs.set(which,{output_type:"display_data",data:content.data,metadata:content.metadata??{}})}}}function keepStored(root,model,id){
const name=`aq-stored-${id}`;const{kernel,context}=model.widget_manager??{};const hide=()=>root.append(element("style","",
{textContent:`.jp-OutputArea-child:has(.${name}), .${name} { display: none; }`}));const hear=(_,{header,content})=>{if(header.
msg_type!=="update_display_data"||content.transient?.display_id!==id)return;put(context?.model,name,content)};kernel?.iopubMessage?.
connect?.(hear);if(kernel)hide();return{hide:kernel?()=>{}:hide,end:()=>kernel?.iopubMessage?.disconnect?.(hear)}}var PATIENCE=1500;var LONGEST=24e3;var AT_ONCE=50;var GONE="This table is no longer connected to its session: the kernel\
 was restarted or the table closed. Run its cell again; the plan shown here is the last one known.";var SLOW="The kernel\
 has not answered yet. The edits shown are kept and asked for again until it does; a cell that runs may hold it up.";var Connection=class{dead=false;met=false;slow=false;unsaved=false;inquiring=false;waiting=new Map;view=Math.
random().toString(36).slice(2,8);sent=0;tries=0;timer;constructor(model,{id,root,onMessage,onState}){this.model=model;this.
id=id;this.onState=onState;this.hear=(message,buffers)=>{if("ack"in message&&message.ack)this.answered(message.ack);onMessage(
message,buffers??[])};this.check=()=>this.send({type:"hello"},true);this.gone=(_,status)=>{if(["dead","restarting","auto\
restarting","terminating"].includes(status))this.die()};model.on("msg:custom",this.hear);model.on("comm_live_update",this.
check);this.kernel=model.widget_manager?.kernel;this.kernel?.statusChanged?.connect?.(this.gone);this.stored=keepStored(
root,model,id)}send(content,ask=false){if(this.dead)return null;if(!ask){this.post(content);return null}const turn2=++this.
sent;const id=`${this.view}-${turn2}`;const request={...content,id,view:this.view,turn:turn2};this.waiting.set(id,request);
this.timer??=setTimeout(()=>this.late(),PATIENCE);return this.post(request)?id:null}post(message){try{this.model.send(message);
return true}catch{this.die();return false}}save(name,value){this.model.set(name,value);if(this.met)this.flush();else this.
unsaved=true}flush(){this.unsaved=false;try{this.model.save_changes()}catch{this.die()}}answered(id){if(!this.waiting.delete(
id))return;if(!this.met)this.stored.hide();this.met=true;if(this.unsaved)this.flush();clearTimeout(this.timer);this.tries=
0;this.timer=this.waiting.size&&!this.dead?setTimeout(()=>this.late(),PATIENCE):void 0;if(this.slow){this.slow=false;this.
onState("","")}}late(){this.tries+=1;this.timer=setTimeout(()=>this.late(),Math.min(PATIENCE*2**this.tries,LONGEST));for(const request of[
...this.waiting.values()].slice(0,AT_ONCE))this.post(request);if(this.dead||this.tries<2)return;this.inquire();this.slow=
true;this.onState(SLOW,"slow")}async inquire(){if(this.inquiring||!this.id||!this.kernel?.requestCommInfo)return;this.inquiring=
true;try{const{content}=await this.kernel.requestCommInfo({target_name:"jupyter.widget"});if(content.status==="ok"&&!(this.
id in content.comms))this.die()}catch{}this.inquiring=false}die(){if(this.dead)return;this.dead=true;clearTimeout(this.timer);
this.onState(GONE,"gone")}close(){this.dead=true;clearTimeout(this.timer);this.model.off("msg:custom",this.hear);this.model.
off("comm_live_update",this.check);this.kernel?.statusChanged?.disconnect?.(this.gone);this.stored.end()}};function sweep(grid,{clientY},visit){const{body,root,top}=grid;let y=clientY;const move=moved2=>{y=moved2.clientY;visit(
grid.positionAt(y))};const scroll=setInterval(()=>{const frame=root.getBoundingClientRect();const past=y>frame.bottom-4?
1:y<frame.top+top.offsetHeight?-1:0;if(!past)return;root.scrollTop+=past*26;visit(grid.positionAt(y))},40);const end=()=>{
clearInterval(scroll);body.ownerDocument.removeEventListener("pointermove",move)};body.ownerDocument.addEventListener("p\
ointermove",move);body.ownerDocument.addEventListener("pointerup",end,{once:true});body.ownerDocument.addEventListener("\
pointercancel",end,{once:true})}function keyed(table,event){if(event.target!==table.grid.root)return;const found=keyOf(event);if(!found)return;event.preventDefault();
event.stopPropagation();const{order}=table.grid;const at=order.indexOf(table.selection.current);if(found.act==="edit"&&found.
action)table.edit(found.action,found.bits);else if(found.act==="filter")table.bar.filter.select();else if(found.act==="m\
enu")table.openMenu(table.selection.current);else if(found.act==="move"||found.act==="page"){const by=(found.by??0)*(found.
act==="page"?table.grid.page:1);const to=Math.max(0,Math.min(order.length-1,at+by));table.choose(()=>table.selection.take(
order,to,{extend:event.shiftKey}));table.grid.reveal(to)}else if(found.act==="toggle"){table.choose(()=>table.selection.
take(order,Math.max(at,0),{toggle:true}))}else if(found.act==="all")table.choose(()=>table.selection.all(order));else table.
choose(()=>table.selection.clear())}function pressed(table,event){const target=event.target;const row=target.closest(".a\
q-row");if(event.button!==0||!row||target.closest("button"))return;event.preventDefault();table.grid.root.focus({preventScroll:true});
const{order}=table.grid;const toggle=event.ctrlKey||event.metaKey;table.choose(()=>table.selection.take(order,Number(row.
dataset.position),{toggle,extend:event.shiftKey}));sweep(table.grid,event,to=>{if(order[to]!==table.selection.current)table.
choose(()=>table.selection.sweep(order,to,toggle))})}function clicked(table,event){const button2=event.target.closest("b\
utton");if(!button2)return;const row=Number(button2.closest(".aq-row").dataset.row);const rows=table.selection.rows.has(
row)?table.subject:[row];if(button2.classList.contains("aq-lock")){table.edit(table.plan.shown.locked[row]?"unlock":"loc\
k",void 0,rows);table.grid.root.focus({preventScroll:true})}else table.openMenu(row)}function explain(select,about){for(const option of select.options)option.title=about[option.value]??"";select.title=Object.
entries(about).map(([name,text2])=>`${name}: ${text2}`).join("\n")}var Glossary=class{constructor(root,policies){const entry=([
term,text2])=>[element("dt","",{textContent:term}),element("dd","",{textContent:text2})];const list=(title,entries)=>[element(
"b","",{textContent:title}),element("dl","",{},...Object.entries(entries).flatMap(entry))];this.box=element("div","aq-me\
nu aq-glossary",{hidden:true,tabIndex:-1},...list("In the table",TERMS),...Object.keys(policies).length?list("Policies",
policies):[]);this.box.setAttribute("role","dialog");this.box.setAttribute("aria-label","what the symbols mean");this.button=
button("?","what the symbols mean",()=>this.show(this.box.hidden),"aq-help");this.button.setAttribute("aria-expanded",false);
this.box.addEventListener(KEY,event=>{if(event.key!=="Escape")return;event.stopPropagation();this.show(false);this.button.
focus()});root.addEventListener("pointerdown",event=>{const target=event.target;if(!this.box.hidden&&!this.box.contains(
target)&&!this.button.contains(target))this.show(false)});root.append(this.box);this.root=root}show(yes){this.box.hidden=
!yes;this.button.setAttribute("aria-expanded",yes);if(!yes)return;const[frame,place]=[this.root.getBoundingClientRect(),
this.button.getBoundingClientRect()];const left=Math.max(4,Math.min(place.left-frame.left,frame.width-this.box.offsetWidth-
4));Object.assign(this.box.style,{left:`${left}px`,top:`${place.bottom-frame.top}px`,maxHeight:`${Math.max(160,frame.bottom-
place.bottom-8)}px`});this.box.focus()}};var ROW=26;var SPARE=6;var made=0;var ARRANGEMENTS={"<":"left",">":"right",h:"hide",m:"menu",ContextMenu:"menu"};var buttonOf=cell=>cell.
firstElementChild;var Grid=class{id=`aq${++made}`;pool=[];order=[];columns=[];widths=[];chosen={};frame;constructor({label,
paint:paint2,onSort,onResize,onRemove,onArrange}){this.paint=paint2;this.onSort=onSort;this.onResize=onResize;this.onRemove=
onRemove;this.onArrange=onArrange;this.header=element("div","aq-row aq-header");this.header.setAttribute("role","row");this.
header.setAttribute("aria-rowindex",1);this.body=element("div","aq-body");this.body.setAttribute("role","rowgroup");this.
top=element("div","aq-top",{},this.header);this.top.setAttribute("role","rowgroup");this.empty=element("div","aq-empty",
{textContent:"No layer matches the filter."});this.root=element("div","aq-grid",{tabIndex:0},this.top,this.body,this.empty);
this.root.setAttribute("role","grid");this.root.setAttribute("aria-label",label);this.root.setAttribute("aria-multiselec\
table",true);this.root.addEventListener("scroll",()=>this.later(),{passive:true});this.header.addEventListener(KEY,event=>this.
headerKey(event));this.header.addEventListener("contextmenu",event=>{event.preventDefault();this.onArrange("menu",this.columnAt(
event.target)?.key)});this.watch=new ResizeObserver(()=>{this.size();this.later()});this.watch.observe(this.root)}later(){
this.frame??=requestAnimationFrame(()=>{this.frame=void 0;this.draw()})}close(){this.watch.disconnect();if(this.frame)cancelAnimationFrame(
this.frame)}setColumns(columns,widths){this.columns=columns;this.chosen={...widths};this.widths=columns.map(column=>widths[column.
key]??column.width);this.header.replaceChildren(...columns.map((column,place)=>this.headerCell(column,place)));this.root.
setAttribute("aria-colcount",columns.length);this.pool=[];this.body.replaceChildren();this.size()}headerCell(column,place){
const button2=element("button","aq-sort",{type:"button",tabIndex:place?-1:0,title:column.hint});button2.append(element("\
span","",{textContent:column.title}),element("i"));if(column.note)button2.append(element("small","aq-prefix",{textContent:column.
note}));if(column.label)button2.setAttribute("aria-label",column.label);button2.addEventListener("click",()=>this.onSort(
column.key));const grip=element("span","aq-grip",{title:"drag to resize, double click to reset"});grip.addEventListener(
"pointerdown",event=>this.drag(event,place,grip));grip.addEventListener("dblclick",()=>this.resize(place,column.fit?null:
column.width,true));const cell=element("div","aq-cell",{},button2);if(column.custom){const remove=element("button","aq-r\
emove",{type:"button",tabIndex:-1,textContent:"×"});remove.setAttribute("aria-label",`remove column ${column.title}`);remove.
addEventListener("click",()=>this.onRemove(column.title));cell.append(remove)}cell.append(grip);cell.dataset.key=column.
key;cell.classList.toggle("aq-right",Boolean(column.right));cell.classList.toggle("aq-sticky",Boolean(column.sticky));cell.
setAttribute("role","columnheader");cell.setAttribute("aria-colindex",place+1);cell.setAttribute("aria-sort","none");return cell}get cells(){
return[...this.header.children]}columnAt(target){return this.columns[this.cells.findIndex(cell=>cell.contains(target))]}focusHeader(key){
const{cells}=this;const cell=cells.find(one=>one.dataset.key===key)??cells[0];for(const one of cells)buttonOf(one).tabIndex=
one===cell?0:-1;if(cell)buttonOf(cell).focus()}headerKey(event){const act=ARRANGEMENTS[event.key];const column=this.columnAt(
event.target);if(act&&column){event.preventDefault();event.stopPropagation();this.onArrange(act,column.key);return}const step=ALONG_ROW[event.
key];const{cells}=this;const place=column?this.columns.indexOf(column):-1;if(event.key==="Delete"&&column?.custom)this.onRemove(
column.title);if(event.key==="ArrowDown")this.root.focus();if(!step||place<0)return;event.preventDefault();event.stopPropagation();
if(event.shiftKey){this.resize(place,this.widths[place]+8*step,true);return}const next=buttonOf(cells[(place+step+cells.
length)%cells.length]);for(const cell of cells)buttonOf(cell).tabIndex=-1;next.tabIndex=0;next.focus()}drag(event,place,grip){
event.preventDefault();event.stopPropagation();const from=event.clientX-this.widths[place];grip.setPointerCapture(event.
pointerId);const move=moved2=>this.resize(place,moved2.clientX-from,false);grip.addEventListener("pointermove",move);const end=ended=>{
grip.removeEventListener("pointermove",move);this.resize(place,ended.clientX-from,true)};grip.addEventListener("pointeru\
p",end,{once:true})}resize(place,width,done){const{key}=this.columns[place];if(width===null)delete this.chosen[key];else
this.chosen[key]=this.widths[place]=Math.max(28,Math.round(width));this.size();if(done)this.onResize(key,width===null?null:
this.widths[place])}size(){let changed=false;const table=this.root.clientWidth;this.columns.forEach((column,place)=>{if(!column.
fit||!table)return;column.setFont?.(getComputedStyle(this.root).font);const others=this.widths.reduce((sum,width,other)=>sum+
(other===place?0:width),0);const found=column.fit(table-others,table,this.chosen[column.key]);this.widths[place]=found.width;
changed||=found.changed});this.root.style.setProperty("--aq-columns",this.widths.map(width=>`${width}px`).join(" "));this.
root.style.setProperty("--aq-width",`${this.widths.reduce((sum,width)=>sum+width,0)}px`);if(changed)this.draw(true)}showSort(key,descending){
for(const cell of this.cells){const direction=descending?"descending":"ascending";cell.setAttribute("aria-sort",cell.dataset.
key===key?direction:"none")}}setOrder(order){this.order=order;this.root.setAttribute("aria-rowcount",order.length+1);this.
body.style.height=`${order.length*ROW}px`;this.empty.hidden=order.length>0;for(const row of this.pool)row.position=-1;this.
draw()}draw(all=false){const first=Math.max(0,Math.floor(this.root.scrollTop/ROW)-SPARE);const fits=Math.ceil(this.root.
clientHeight/ROW)+2*SPARE;while(this.pool.length<Math.min(fits,this.order.length))this.pool.push(this.makeRow());const last=Math.
min(this.order.length,first+this.pool.length);const start=Math.max(0,last-this.pool.length);for(const[place,row]of this.
pool.entries()){const position=start+((place-start)%this.pool.length+this.pool.length)%this.pool.length;const seen=position<
last;row.element.hidden=!seen;if(!seen||row.position===position&&!all)continue;row.position=position;const layer=this.order[position];
row.element.style.transform=`translateY(${position*ROW}px)`;row.element.id=`${this.id}-${layer}`;row.element.dataset.row=
String(layer);row.element.dataset.position=String(position);row.element.setAttribute("aria-rowindex",position+2);row.element.
classList.toggle("aq-odd",position%2===1);this.paint(row.element,layer)}}makeRow(){const row=element("div","aq-row",{hidden:true});
row.setAttribute("role","row");for(const[place,column]of this.columns.entries()){const cell=row.appendChild(element("div",
"aq-cell"));cell.dataset.key=column.key;cell.classList.toggle("aq-right",Boolean(column.right));cell.classList.toggle("a\
q-sticky",Boolean(column.sticky));cell.setAttribute("role","gridcell");cell.setAttribute("aria-colindex",place+1)}this.body.
append(row);return{element:row,position:-1}}reveal(position){const room=this.root.clientHeight-this.top.offsetHeight;const above=position*
ROW;if(above<this.root.scrollTop)this.root.scrollTop=above;else if(above+ROW>this.root.scrollTop+room)this.root.scrollTop=
above+ROW-room;this.draw()}get page(){return Math.max(1,Math.floor((this.root.clientHeight-this.top.offsetHeight)/ROW)-1)}positionAt(clientY){
const offset=clientY-this.body.getBoundingClientRect().top;return Math.max(0,Math.min(this.order.length-1,Math.floor(offset/
ROW)))}elementOf(row){return this.pool.find(one=>!one.element.hidden&&one.element.dataset.row===String(row))?.element}};var Menu=class{row=-1;rows=[];anchor=null;constructor(root,onChoose){this.root=root;this.onChoose=onChoose;this.box=element(
"div","aq-menu",{hidden:true});this.box.setAttribute("role","menu");this.box.addEventListener(KEY,event=>this.key(event));
root.append(this.box)}get open(){return!this.box.hidden}item(option,scheme,choose){const swatch=element("span","aq-swatc\
h");paint(swatch,option.bits,"key"in option&&option.key==="keep");const item=element("button","aq-item",{type:"button",tabIndex:-1},
swatch,element("b","",{textContent:String(option.bits)}),element("span","",{textContent:scheme}),element("span","aq-righ\
t",{textContent:`${whole(option.nbytes)} B`}),element("span","aq-right",{textContent:`damage ${significant(option.damage)}`}));
item.setAttribute("role","menuitemradio");item.setAttribute("aria-checked",option.present);item.addEventListener("click",
()=>{this.hide();choose()});return item}addVariants(row,variants){if(!this.open||row!==this.row||variants.length<2)return;
const items=variants.map(option=>this.item(option,nameOfScheme(option.scheme,option.group),()=>this.onChoose(option.bits,
this.rows,{scheme:option.scheme,group_size:option.group})));this.box.append(element("div","aq-title",{textContent:`schem\
e and group size at ${variants[0].bits} bits`}),...items);this.place()}show(plan,row,rows,anchor){this.row=row;this.rows=
rows;this.anchor=anchor;const items=plan.menu(row).map(option=>{const item=this.item(option,schemeOf(plan,option.scheme,
option.group),()=>this.onChoose(option.key,rows));item.dataset.key=String(option.key);return item});const title=rows.length>
1?`${rows.length} layers, as this one`:plan.names[row];this.box.setAttribute("aria-label",`bits of ${title}`);this.box.replaceChildren(
element("div","aq-title",{textContent:title,title}),...items);this.box.hidden=false;this.place();(items.find(item=>item.
getAttribute("aria-checked")==="true")??items[0]).focus()}place(){const{anchor}=this;if(!anchor)return;this.box.style.maxHeight=
`${this.root.clientHeight-8}px`;const[frame,cell]=[this.root.getBoundingClientRect(),anchor.getBoundingClientRect()];const{
offsetWidth:width,offsetHeight:height}=this.box;const left=Math.max(4,Math.min(cell.left-frame.left,frame.width-width-4));
const below=cell.bottom-frame.top;const above=cell.top-frame.top-height;const top=below+height<=frame.height?below:Math.
max(4,above>=4?above:frame.height-height-4);Object.assign(this.box.style,{left:`${left}px`,top:`${top}px`})}hide(){this.
box.hidden=true}key(event){const items=[...this.box.querySelectorAll("button")];const place=items.indexOf(event.target);
const step=ALONG_COLUMN[event.key];const wanted=items.find(item=>item.dataset.key===event.key);if(step)items[(place+step+
items.length)%items.length].focus();else if(event.key==="Home")items[0].focus();else if(event.key==="End")items.at(-1)?.
focus();else if(event.key==="Escape"||event.key==="Tab")this.onChoose(null);else if(wanted)wanted.click();else if(event.
key!=="Enter"&&event.key!==" ")return;else items[place]?.click();event.preventDefault();event.stopPropagation()}};var isCondition=text2=>/^\s*=|[<>*?]|[=!]=|\brole:/.test(text2);function ordered(plan,{words,mask},column,descending){const rows=[
...plan.fixed.order].filter(row=>mask?mask[row]:words.every(word=>plan.lowered[row].includes(word)));if(!column)return rows;
const values=new Array(plan.count);const places=new Array(plan.count);for(const[place,row]of rows.entries()){values[row]=
column.value(plan,row);places[row]=place}const sign=descending?-1:1;const compare=(a,b)=>{if(column.compare)return column.
compare(String(a),String(b));return a===b?0:a<b?-1:1};const unknown=value=>Number(Number.isNaN(value));return rows.sort(
(one,other)=>{const a=values[one];const b=values[other];if(unknown(a)||unknown(b))return unknown(a)-unknown(b)||places[one]-
places[other];return sign*compare(a,b)||places[one]-places[other]})}var KINDS={u1:Uint8Array,u2:Uint16Array,u4:Uint32Array,f4:Float32Array,f8:Float64Array};function unpack(layout,view){const bytes=view.
buffer.slice(view.byteOffset,view.byteOffset+view.byteLength);return Object.fromEntries(layout.map(([name,kind,offset,count])=>[
name,new KINDS[kind](bytes,offset,count)]))}var OPTION=["bits","scheme","group","nbytes","damage","cosine","code_entropy"];var PRESENT=[...OPTION,"heat","locked"];var TOTALS=[
"nbytes","ratio","bpw","damage","gap","temperature"];var LayerPlan=class{pending=new Map;trial=null;back=null;again=null;touched=new Set;overhead=0;canUndo=false;canRedo=false;confirmed={};choiceEntropy=new Float32Array;columns=[];constructor({
header,blob},unpack2){const arrays=unpack2(header.layout,blob);this.names=header.names;this.shapes=header.shapes;this.roles=
header.roles;this.schemes=header.schemes;this.sourceBytes=header.source_bytes;this.fixed=arrays;this.count=header.names.
length;this.version=header.version;this.asked=new Uint8Array(this.count);this.everyRow=header.names.map((_,row)=>row);this.
real=Object.fromEntries(PRESENT.map(key=>[key,arrays[key]]));this.shown=Object.fromEntries(PRESENT.map(key=>[key,this.real[key].
slice()]));this.menus=Object.fromEntries(OPTION.map(key=>[key,arrays[`menu_${key}`]]));this.params=arrays.params.reduce(
(sum,value)=>sum+value,0);this.lowered=this.names.map((name,row)=>`${name} ${this.roles[arrays.role[row]]}`.toLowerCase());
this.settle(header,arrays)}settle(header,arrays){this.choiceEntropy=arrays.choice_entropy;this.canUndo=header.can_undo;this.
canRedo=header.can_redo;this.confirmed=Object.fromEntries(TOTALS.map((key,place)=>[key,arrays.totals[place]]));this.overhead=
this.confirmed.nbytes-this.real.nbytes.reduce((sum,value)=>sum+value,0);this.setColumns(header.columns,arrays)}setColumns(columns,arrays){
this.columns=columns.map((column,place)=>({...column,values:arrays[`column_${place}`]}))}confirm(message,arrays){if(message.
base>this.version)return false;const ack=message.ack??"";const asked=this.pending.get(ack)?.action;this.pending.delete(ack);
const behind=message.version<this.version;if(!behind){this.remember(message,arrays,asked);arrays.rows.forEach((row,place)=>{
for(const key of PRESENT)this.real[key][row]=arrays[key][place];this.touched.add(row)});this.version=message.version;this.
settle(message,arrays)}this.lay();return true}forget(id){if(id&&this.pending.delete(id))this.lay()}remember({base,version,
can_redo:redo},arrays,asked){if(version===this.version)return;const rows=[...arrays.rows];const options2=Object.fromEntries(
[...OPTION,"locked"].map(key=>[key,rows.map(row=>this.real[key][row])]));const isNext=base===this.version&&version===base+
1;const before=isNext?{rows,options:options2,places:[...rows.keys()]}:null;this.back=redo&&asked!=="redo"?null:before;this.
again=asked==="undo"?before:null}propose(id,edit){this.ask(edit);const before=edit.action==="undo"?this.back:edit.action===
"redo"?this.again:null;const shown={...edit,...this.pending.size?null:before};this.pending.set(id,shown);this.overlay(shown)}attempt(trial){
this.trial=trial;this.lay()}lay(){for(const row of this.touched){for(const key of PRESENT)this.shown[key][row]=this.real[key][row]}
this.touched.clear();for(const edit of this.pending.values())this.overlay(edit);if(this.trial)this.overlay(this.trial)}overlay({
action,bits=0,rows=[],options:options2,places=[]}){const locking=action==="lock"||action==="unlock";if(options2){for(const[
key,values]of Object.entries(options2)){const shown=this.shown[key];rows.forEach((row,which)=>{shown[row]=values[places[which]]})}
for(const row of rows)this.touched.add(row);return}for(const row of rows){this.touched.add(row);if(locking){this.shown.locked[row]=
Number(action==="lock");continue}const place=this.placeOf(row,action==="keep"?9:bits);for(const key of OPTION)this.shown[key][row]=
this.menus[key][place]}}ask({action,rows=[],bits}){if(action==="act"||action==="undo"||action==="redo")this.asked.fill(0);else if(action===
"bits"||action==="keep")for(const row of rows)this.asked[row]=bits??0}askedInstead(row){const bits=this.asked[row];if(!bits||
bits===this.shown.bits[row])return null;const place=this.placeOf(row,bits);const is=["bits","scheme","group"].every(name=>this.
menus[name][place]===this.shown[name][row]);return is?bits:null}has(rows,bits){return!rows.length||rows.some(row=>this.menus.
bits[this.placeOf(row,bits)]===bits)}instead(rows,bits){const counts=new Map;for(const row of rows){const place=this.placeOf(
row,bits);if(this.menus.bits[place]===bits)continue;const key=256*this.menus.scheme[place]+this.menus.bits[place];counts.
set(key,(counts.get(key)??0)+1)}const text2=key=>{const name=this.schemes[Math.floor(key/256)];return name==="keep"?"kep\
t":/\d/.test(name)?name:`${key%256} bits`};return[...counts].map(([key,count])=>({text:text2(key),count}))}placeOf(row,bits){
return this.fixed.menu_start[row]+this.fixed.width_place[8*row+bits-2]}menu(row){const keys=new Map;for(let bits=2;bits<=
9;bits++){const place=this.placeOf(row,bits);const key=bits===9?"keep":bits;if(!keys.has(place)||this.fixed.menu_bits[place]===
bits||key==="keep")keys.set(place,key)}return[...keys].map(([place,key])=>{const{bits,scheme,group:group2,nbytes,damage}=this.
menus;const present=["bits","scheme","group"].every(name=>this.menus[name][place]===this.shown[name][row]);return{key,present,
bits:bits[place],scheme:scheme[place],group:group2[place],nbytes:nbytes[place],damage:damage[place]}})}kept(row){return this.
schemes[this.shown.scheme[row]]==="keep"}totals(minCosine){const{nbytes,damage,cosine,locked}=this.shown;let bytes=0;let total=0;
let below=0;let locks=0;for(let row=0;row<this.count;row++){bytes+=nbytes[row];total+=damage[row];below+=Number(cosine[row]<
minCosine);locks+=locked[row]}const estimate=this.pending.size>0||this.trial!==null;const payload=estimate?bytes+this.overhead:
this.confirmed.nbytes;const{gap,temperature}=this.confirmed;return{gap,temperature,nbytes:payload,ratio:this.sourceBytes/
Math.max(payload,1),bpw:8*bytes/Math.max(this.params,1),damage:estimate?total:this.confirmed.damage,below,locks,estimate}}};var Selection=class{constructor(rows=[],current=-1){this.rows=new Set(rows);this.current=current;this.anchor=current;this.
before=new Set}take(order,position,{toggle=false,extend=false}={}){const row=order[position];if(row===void 0)return;this.
current=row;if(extend&&order.includes(this.anchor)){this.sweep(order,position,toggle);return}this.anchor=row;if(!toggle)
this.rows=new Set([row]);else if(!this.rows.delete(row))this.rows.add(row);this.before=new Set(this.rows)}sweep(order,position,add=false){
const from=order.indexOf(this.anchor);const[low,high]=from<position?[from,position]:[position,from];this.rows=new Set(add?
this.before:[]);for(let place=low;place<=high;place++)this.rows.add(order[place]);this.current=order[position]}all(order){
this.rows=new Set(order);this.before=new Set(this.rows)}clear(){this.rows.clear();this.before.clear()}get subject(){if(this.
rows.size)return[...this.rows].sort((a,b)=>a-b);return this.current>=0?[this.current]:[]}};function spoken(plan,action,rows,bits,more){const layers=rows.length===1?plan.names[rows[0]]:`${whole(rows.length)} laye\
rs`;const instead=plan.instead(action==="bits"&&!more?rows:[],bits).map(({text:text2,count})=>`${bits} → ${text2}${count<
rows.length?` for ${whole(count)}`:""}`);const option=more?`${bits} bits, ${more.scheme} ${more.group_size}`:instead.join(
", ")||`${bits} bits`;return{bits:`${layers}: ${option}`,keep:`${layers}: kept`,lock:`${layers}: locked`,unlock:`${layers}\
: unlocked`,undo:"undo",redo:"redo"}[action]}var QUIET=120;var PAUSE=250;var Table=class{mask=null;visible=new Uint8Array;columns=[];everyColumn=[];follows=[];stale=false;asked="";telling;asking;unfollowTheme=()=>{};freeKeys=()=>{};constructor(model,host,around={}){
this.model=model;this.around=around;this.plan=new LayerPlan(model.get("data"),unpack);this.selection=new Selection(model.
get("selected"),model.get("current"));this.grid=new Grid({label:"layers",paint:(one,row)=>this.paint(one,row),onSort:key=>this.
sortBy(key),onResize:(key,width)=>{const{[key]:_,...others}=model.get("widths");this.connection.save("widths",width===null?
others:{...others,[key]:width})},onArrange:(act,key)=>this.arrange(act,key),onRemove:title=>this.connection.send({type:"\
remove_column",title},true)});this.bar=new Bar({edit:(action,bits)=>{this.edit(action,bits);this.grid.root.focus()},again:()=>{
this.again();this.grid.root.focus()},arrange:()=>this.arrange("menu"),addColumn:(title,expression)=>this.connection.send(
{type:"add_column",title,expression},true)});this.strip=new Strip(()=>around.dismissed?.());this.totals=new Totals;this.
voice=element("div","aq-voice");this.voice.setAttribute("role","status");this.voice.setAttribute("aria-live","polite");this.
root=element("div","aq-view aq-table",{},this.bar.root,this.strip.root,this.grid.root,this.totals.root,this.voice);this.
menu=new Menu(this.root,(key,rows,more)=>{this.menu.hide();this.grid.root.focus({preventScroll:true});if(key!==null)this.
edit(key==="keep"?"keep":"bits",Number(key),rows,more)});this.columnMenu=new ColumnMenu(this.root,(order,hidden)=>this.setColumns(
order,hidden),key=>key?this.grid.focusHeader(key):this.bar.arrange.focus());this.glossary=new Glossary(this.root,model.get(
"data").header.about_policies??{});this.bar.rest.append(this.glossary.button);host.append(this.root);this.connection=new Connection(
model,{id:model.get("data").header.model_id,root:this.root,onMessage:(message,buffers)=>this.hear(message,buffers),onState:(text2,kind)=>{
void(text2?this.strip.say(text2,kind):this.strip.end("slow"));this.root.dataset.connection=kind||"live";this.refresh()}});
this.listen();this.setHeight();this.bar.filter.value=model.get("filter");this.showColumns();this.refilter();this.greet();
this.root.dataset.ready="true"}listen(){const follow={data:()=>this.renew(),selected:()=>this.follow(new Set(this.model.
get("selected"))),current:()=>this.point(this.model.get("current")),filter:()=>{if(this.bar.filter.value===this.model.get(
"filter"))return;this.bar.filter.value=this.asked=this.model.get("filter");this.refilter()},sort:()=>this.refilter(),column_order:()=>this.
showColumns(),hidden_columns:()=>this.showColumns(),min_cosine:()=>this.refresh(),height:()=>this.setHeight()};this.follows=
Object.entries(follow).map(([name,act])=>[`change:${name}`,act]);for(const[event,act]of this.follows)this.model.on(event,
act);this.unfollowTheme=followTheme(this.root);this.freeKeys=keepKeys(this.root);this.grid.root.addEventListener(KEY,event=>keyed(
this,event));this.grid.root.addEventListener("copy",event=>{const names=this.subject.map(row=>this.plan.names[row]);event.
clipboardData?.setData("text/plain",names.join("\n"));event.preventDefault()});this.grid.body.addEventListener("pointerd\
own",event=>pressed(this,event));this.grid.body.addEventListener("click",event=>clicked(this,event));this.root.addEventListener(
"pointerdown",event=>{if(this.menu.open&&!this.menu.box.contains(event.target))this.menu.hide()});this.bar.filter.addEventListener(
"input",()=>this.refilter());this.bar.filter.addEventListener("keydown",event=>{if(event.key==="Enter"||event.key==="Arr\
owDown")this.grid.root.focus();if(event.key==="Enter")this.ask();if(event.key!=="Escape")return;this.bar.filter.value="";
this.refilter();this.grid.root.focus()})}close(){for(const[event,act]of this.follows)this.model.off(event,act);this.unfollowTheme();
this.freeKeys();this.connection.close();this.grid.close();clearTimeout(this.telling);clearTimeout(this.asking)}openMenu(row){
const position=this.grid.order.indexOf(row);if(position<0||this.connection.dead)return;if(!this.selection.rows.has(row))
this.choose(()=>this.selection.take(this.grid.order,position));this.grid.reveal(position);const shown=this.grid.elementOf(
row);if(!shown)return;const anchor=shown.querySelector(".aq-bits")??shown.querySelector('[data-key="name"]');if(!anchor)
return;this.menu.show(this.plan,row,this.subject,anchor);this.connection.send({type:"options",row},true)}get subject(){return this.
selection.subject.filter(row=>this.visible[row])}renew(){this.plan=new LayerPlan(this.model.get("data"),unpack);this.mask=
null;this.menu.hide();this.around.renewed?.();this.showColumns();this.again()}act(content,proposal={rows:[]}){this.plan.
attempt(null);this.strip.over();const id=this.connection.send({type:"do",...content},true);if(id)this.plan.propose(id,{action:"\
act",...proposal});this.refresh();return id}attempt(trial){this.plan.attempt(trial);this.refresh()}edit(asked,bits,rows=this.
subject,more=null){if(this.connection.dead)return;const moves=asked==="undo"||asked==="redo";if(!moves&&!rows.length)return;
const areLocked=rows.every(row=>this.plan.shown.locked[row]);const action=asked!=="toggle"?asked:areLocked?"unlock":"loc\
k";const edit=moves?{action}:{action,rows,...action==="bits"?{bits}:{},...more};this.strip.over();const id=this.connection.
send({type:"edit",...edit},true);if(!id)return;this.plan.propose(id,more?{action:"act",rows:[]}:{rows:[],...edit});this.
refresh();this.say(`${spoken(this.plan,action,rows,bits??0,more)}. ${this.totals.values.nbytes.textContent}`)}hear(message,buffers){
if(message.type==="plan")this.settle(message,unpack(message.layout,buffers[0]));else if(message.type==="filter")this.takeMask(
message,buffers);else if(message.type==="options")this.menu.addVariants(message.row,message.options);else if(message.type===
"columns")this.takeColumns(message,buffers);else if(message.type==="focus")this.point(message.row);else if(message.type===
"error")this.complain(message.error);else if(message.type==="here"){this.plan.forget(message.ack);if(message.version!==void 0&&
message.version>this.plan.version)this.greet();this.refresh()}else this.around.hear?.(message);if("ack"in message&&message.
ack)this.root.dataset.acked=String(Number(this.root.dataset.acked??0)+1)}settle(message,arrays){const moved2=this.plan.version!==
message.version;if(!this.plan.confirm(message,arrays))return void this.greet();if(message.error)this.complain(message.error);else if(message.
note)this.complain(message.note,"note");this.around.settled?.(message);this.stale||=moved2&&Boolean(this.model.get("sort")||
this.mask);this.refresh()}greet(){this.connection.send({type:"hello",version:this.plan.version},true)}complain(text2,kind="\
error"){this.strip.say(text2,kind);this.say(text2)}say(text2){this.voice.textContent=text2}takeMask(message,[mask]){if(message.
text!==this.bar.filter.value)return;this.bar.complain(message.error??"");if(message.error)return;this.mask=new Uint8Array(
mask.buffer.slice(mask.byteOffset,mask.byteOffset+mask.byteLength));this.reorder()}takeColumns(message,[blob]){if(!message.
columns||!message.layout){this.bar.complain(message.error??"");return}this.plan.setColumns(message.columns,unpack(message.
layout,blob));if(!this.bar.form.hidden&&message.ack){this.bar.title.value=this.bar.expression.value="";this.bar.toggleForm(
false)}this.showColumns();this.reorder()}showColumns(){const every=columnsOf(this.plan);this.everyColumn=arranged(every,
this.model.get("column_order"),[]);this.columns=arranged(every,this.model.get("column_order"),this.model.get("hidden_col\
umns"));this.grid.setColumns(this.columns,this.model.get("widths"));const sort=this.model.get("sort");this.grid.showSort(
sort.replace(/^-/,""),sort.startsWith("-"));this.grid.draw(true)}setColumns(order,hidden){this.model.set("column_order",
order);this.connection.save("hidden_columns",hidden);this.showColumns();this.say(`${this.columns.length} of ${this.everyColumn.
length} columns shown`)}arrange(act,key){const hidden=this.model.get("hidden_columns");const keys=this.everyColumn.map(column=>column.
key);if(act==="menu"){const header=key&&this.grid.header.querySelector(`[data-key="${CSS.escape(key)}"]`);this.columnMenu.
show(this.everyColumn,hidden,key,header||this.bar.arrange);return}if(!key)return;const at=this.columns.findIndex(column=>column.
key===key);const beside=this.columns[at+(act==="left"?-1:1)]?.key;if(act==="hide"&&key!=="name")this.setColumns(keys,[...hidden,
key]);else if(act!=="hide"&&beside)this.setColumns(moved(keys,key,keys.indexOf(beside)),hidden);this.grid.focusHeader(act===
"hide"&&key!=="name"?beside:key)}refilter(){const text2=this.bar.filter.value;this.bar.complain("");clearTimeout(this.asking);
this.asking=setTimeout(()=>this.ask(),PAUSE);if(!isCondition(text2))this.mask=null;if(!this.mask)this.reorder()}ask(){clearTimeout(
this.asking);const text2=this.bar.filter.value;if(text2===this.asked)return;this.asked=text2;if(text2!==this.model.get("\
filter"))this.connection.save("filter",text2);else if(isCondition(text2))this.connection.send({type:"filter",text:text2})}again(){
if(isCondition(this.bar.filter.value))this.connection.send({type:"filter",text:this.bar.filter.value});this.reorder()}reorder(){
const text2=this.bar.filter.value;const words=isCondition(text2)?[]:text2.toLowerCase().split(/\s+/).filter(Boolean);const sort=this.
model.get("sort");const key=sort.replace(/^-/,"");const column=this.everyColumn.find(one=>one.key===key);this.stale=false;
this.grid.showSort(key,sort.startsWith("-"));const order=ordered(this.plan,{words,mask:this.mask},column,sort.startsWith(
"-"));this.visible=new Uint8Array(this.plan.count);for(const row of order)this.visible[row]=1;this.grid.setOrder(order);
this.refresh()}sortBy(key){const sort=this.model.get("sort");this.connection.save("sort",sort===key?`-${key}`:sort===`-${key}`?
"":key);this.reorder()}paint(one,row){const{selection,plan}=this;one.setAttribute("aria-selected",selection.rows.has(row));
one.classList.toggle("aq-current",selection.current===row);one.classList.toggle("aq-pending",plan.pending.size>0&&plan.touched.
has(row));const cells=one.children;for(const[place,column]of this.columns.entries())column.draw(cells[place],plan,row)}refresh(){
this.grid.draw(true);const{plan,selection,connection}=this;const minCosine=this.model.get("min_cosine");const totals=plan.
totals(minCosine);this.totals.update(totals,minCosine,this.grid.order.length,plan.count,connection.slow?plan.pending.size:
0);const about=this.subject;const subject=about.length;this.bar.showWidths(plan,subject?about:plan.everyRow);this.bar.update(
{chosen:selection.rows.size,hidden:selection.rows.size?selection.rows.size-subject:0,subject,stale:this.stale,dead:connection.
dead,canUndo:plan.canUndo||plan.pending.size>0,canRedo:plan.canRedo});const current=this.grid.elementOf(selection.current);
if(current)this.grid.root.setAttribute("aria-activedescendant",current.id);else this.grid.root.removeAttribute("aria-act\
ivedescendant");Object.assign(this.root.dataset,{version:plan.version,pending:plan.pending.size});this.around.refreshed?.(
totals)}choose(change){change();this.refresh();this.around.chosen?.();clearTimeout(this.telling);this.telling=setTimeout(
()=>{this.model.set("current",this.selection.current);this.connection.save("selected",[...this.selection.rows].sort((a,b)=>a-
b))},QUIET)}follow(rows){const{selection}=this;if(rows.size===selection.rows.size&&[...rows].every(row=>selection.rows.has(
row)))return;selection.rows=rows;selection.before=new Set(rows);this.refresh();this.around.chosen?.()}point(row){this.selection.
current=this.selection.anchor=row;const position=this.grid.order.indexOf(row);if(position>=0)this.grid.reveal(position);
this.refresh()}setHeight(){this.grid.root.style.maxHeight=`${this.model.get("height")}px`}};var Steps=class{constructor(arrays){this.rows=arrays.rows;this.options=Object.fromEntries(OPTION.map(key=>[key,arrays[key]]))}range(plan){
const{nbytes}=this.options;const last=new Int32Array(plan.count);this.rows.forEach((row,step)=>{last[row]=step});let[low,
high]=[0,0];for(let row=0;row<plan.count;row++){const{locked,nbytes:now}=plan.shown;low+=locked[row]?now[row]:nbytes[row];
high+=locked[row]?now[row]:nbytes[last[row]]}return[low,high]}walk(plan,budget){const{nbytes}=this.options;const{locked}=plan.
shown;const at=Int32Array.from({length:plan.count},(_,row)=>row);let[bytes]=this.range(plan);for(let step=plan.count;step<
this.rows.length;step++){const row=this.rows[step];if(locked[row])continue;const more=nbytes[step]-nbytes[at[row]];if(bytes+
more>budget)break;bytes+=more;at[row]=step}const rows=[...at.keys()].filter(row=>!locked[row]);return{rows,options:this.
options,places:rows.map(row=>at[row])}}};var Tabs=class{onChange=()=>{};constructor(panes){this.panes=Object.entries(panes);this.tabs=this.panes.map(([name,pane],place)=>{
const tab=element("button","aq-tab",{type:"button",textContent:name});tab.setAttribute("role","tab");tab.addEventListener(
"click",()=>this.choose(place));pane.setAttribute("role","tabpanel");pane.setAttribute("aria-label",name);return tab});const list=element(
"div","aq-tabs",{},...this.tabs);list.setAttribute("role","tablist");list.addEventListener(KEY,event=>{const step=ALONG_ROW[event.
key];if(!step)return;const{length}=this.tabs;this.choose((this.tabs.indexOf(event.target)+step+length)%length);event.preventDefault()});
this.root=element("div","aq-side",{},list,...Object.values(panes));this.choose(0,false)}choose(chosen,focus=true){this.panes.
forEach(([,pane],place)=>{pane.hidden=place!==chosen;this.tabs[place].setAttribute("aria-selected",place===chosen);this.
tabs[place].tabIndex=place===chosen?0:-1});if(focus)this.tabs[chosen].focus();this.onChange()}};var fields=0;var field=(text2,control)=>{control.id=`aq-field-${++fields}`;return element("span","aq-field",{},element("\
label","",{textContent:text2,htmlFor:control.id}),control)};function choice(label,groups,onChoose){const made2=element("\
select","aq-choice",{},...groups);made2.setAttribute("aria-label",label);made2.addEventListener("change",()=>onChoose(made2.
value));made2.addEventListener(KEY,event=>{if(event.altKey||event.ctrlKey||event.metaKey||["Tab","Enter"," ","Escape"].includes(
event.key))return;event.preventDefault();if(event.key.startsWith("Arrow"))made2.showPicker?.()});return made2}var options=(values,prefix="")=>values.
map(value=>element("option","",{value:prefix+value,textContent:value}));var group=(label,...inner)=>element("optgroup","",
{label},...inner);var NAMES={original:"original (ComfyUI)",checkpoint:"diffusers"};var Typed=class{constructor(input,onEnter){
this.input=input;this.dirty=false;this.now="";input.addEventListener("input",()=>this.mark(true));input.addEventListener(
"keydown",event=>{if(event.key==="Enter")onEnter();if(event.key!=="Escape"||!this.dirty)return;event.stopPropagation();this.
giveUp()})}mark(dirty){this.dirty=dirty;this.input.classList.toggle("aq-typed",dirty)}show(text2){this.now=text2;if(!this.
dirty)this.input.value=text2}giveUp(){this.mark(false);this.input.value=this.now}};var megabytes=bytes=>`${(bytes/1e6).toFixed(
3)} MB`;var Toolbar=class{onDrawer=()=>{};endQuestion=()=>{};steps=null;dragging=false;frame;solving=null;version;totals;shownTarget="";asking;folder=element(
"input","aq-path",{value:"export",spellcheck:false});ahead=element("div","aq-ahead");exportSlot=element("span","aq-slot");done=new Snippet;slot=element(
"div","aq-slot");question=element("div","aq-question",{hidden:true});constructor(table,header){this.table=table;this.target=
choice("target format",options(header.targets),target=>this.act("retarget",{target}));this.names=choice("names of the la\
yers",header.possible_names.map(value=>element("option","",{value,textContent:NAMES[value]??value})),names=>this.act("re\
target",{target:this.shownTarget,names}));this.names.classList.add("aq-names");this.names.title="original: as in the sin\
gle-file checkpoint, which ComfyUI reads; diffusers: as in this checkpoint's files";this.budget=element("input","aq-budg\
et",{type:"range",min:"0",max:"1",step:"any",disabled:true});this.size=element("input","aq-size",{placeholder:"2.5 GB",spellcheck:false,
title:"bytes of the payload, such as 2.5 GB or 900 MiB; Enter solves, Escape shows the present size again"});this.size.setAttribute(
"aria-label","size to solve for");this.solve=button("Solve","Solve: the best plan within this size",()=>this.solveSize(),
"aq-primary");this.price=element("input","aq-price",{inputMode:"decimal",spellcheck:false,title:`T, ${TERMS.T}; Enter so\
lves`});this.typed={size:new Typed(this.size,()=>this.solveSize()),price:new Typed(this.price,()=>this.solvePrice())};this.
policy=choice("take a simple policy's plan",[element("option","",{value:"",textContent:"Policy"}),...options(header.policies)],
policy=>this.once(this.policy,"follow",{policy}));explain(this.policy,header.about_policies);const roles=header.roles.slice().
sort();this.lock=choice("lock or unlock by role",[element("option","",{value:"",textContent:"Lock"}),group("lock",...options(
roles,"lock ")),group("unlock",element("option","",{value:"unlock",textContent:"all"}),...options(roles,"unlock "))],value=>{
const[act,role]=value.split(" ");this.once(this.lock,act==="lock"?"lock":"unlock",role?{role}:{})});const{undo,redo}=table.
bar;undo.append(" Undo");redo.append(" Redo");this.plans=this.makePlans();this.exports=this.makeExports();const budget=field(
"budget",this.budget);budget.classList.add("aq-wide");budget.append(this.size,this.solve);const row=element("div","aq-to\
ols",{},element("b","aq-model",{textContent:header.model,title:header.model}),field("target",this.target),...header.possible_names.
length>1?[field("names",this.names)]:[],budget,field("T",this.price),element("span","aq-field",{},undo,redo),element("sp\
an","aq-field aq-more",{},this.policy,this.lock,this.plans.toggle,this.exports.toggle));this.question.setAttribute("role",
"alertdialog");this.root=element("div","aq-toolbar",{},row,this.slot,this.plans.root,this.exports.root,this.question);this.
root.setAttribute("role","group");this.root.setAttribute("aria-label","workbench");this.listen()}drawer(text2,...inner){
const root=element("div","aq-drawer",{hidden:true},...inner);const toggle=button(`${text2} ▾`,`${text2} …`,()=>open(
root.hidden));const open=yes=>{root.hidden=!yes;toggle.setAttribute("aria-expanded",yes);if(yes)root.querySelector("inpu\
t")?.select();if(yes&&text2==="Export")this.predict();this.onDrawer()};toggle.setAttribute("aria-expanded",false);for(const heard of[
KEY,"keydown"]){root.addEventListener(heard,event=>{if(event.key!=="Escape")return;open(false);toggle.focus()})}return{root,
toggle,open}}makePlans(){const path=element("input","aq-path",{value:"plan.yaml",spellcheck:false});return this.drawer("\
Plan",field("file",path),button("Save plan","Save the plan to the file",()=>this.act("save",{path:path.value})),button("\
Load plan","Load a plan from the file",()=>this.act("load",{path:path.value})))}makeExports(){const{folder}=this;this.ahead.
setAttribute("role","status");const write=()=>this.act("export",{folder:folder.value});folder.addEventListener("keydown",
event=>event.key==="Enter"&&write());folder.addEventListener("input",()=>{clearTimeout(this.asking);this.asking=setTimeout(
()=>this.predict(),300)});return this.drawer("Export",field("folder",folder),button("Write","Write the export",write,"aq\
-primary"),this.exportSlot,this.ahead,this.done.root)}ask(question){this.question.hidden=!question;if(!question)return;const page=this.
root.getRootNode();const before=page.activeElement;const end=()=>{this.question.hidden=true;before?.focus?.({preventScroll:true})};
const buttons=question.choices.map(({label,message},place)=>button(label,label,()=>{end();const{type,id,act,...content}=message;
this.act(act,content)},place?"":"aq-primary"));this.question.setAttribute("aria-label",question.text);this.question.replaceChildren(
element("span","",{textContent:question.text}),...buttons,button("Cancel","Cancel",end));this.endQuestion=end;buttons[0].
focus()}solveSize(){this.act("solve",{size:this.typed.size.dirty?this.size.value:this.totals?.nbytes})}solvePrice(){const{
price}=this;const temperature=Number(price.value.replace("−","-"));if(price.value.trim()&&temperature>=0&&Number.isFinite(
temperature))this.act("solve",{temperature});else this.table.complain(`T is ${price.value||"empty"}; it must be a number\
 from 0 on, such as 2e-9.`)}solved(ack){if(!ack||ack!==this.solving)return;for(const one of Object.values(this.typed))one.
mark(false)}listen(){const{budget}=this;budget.addEventListener("input",()=>{this.typed.size.giveUp();this.dragging=true;
this.frame??=requestAnimationFrame(()=>{this.frame=void 0;if(this.dragging)this.table.attempt(this.walked())})});budget.
addEventListener("change",()=>{this.dragging=false;this.act("budget",{nbytes:Math.round(budget.valueAsNumber)},this.walked()??
void 0)});for(const heard of[KEY,"keydown"]){this.question.addEventListener(heard,event=>{if(event.key==="Escape")this.endQuestion()})}}act(act,content,proposal){
this.question.hidden=true;const id=this.table.act({act,...content},proposal);if(["solve","budget","follow"].includes(act))
this.solving=id}once(control,act,content){control.value="";this.act(act,content)}walked(){const{plan}=this.table;return this.
steps?this.steps.walk(plan,this.budget.valueAsNumber-plan.overhead):null}setSteps(steps){this.steps=steps;this.dragging=
false;this.refresh(this.totals)}predict(){this.table.connection.send({type:"predict",folder:this.folder.value},true)}predicted({
error,nbytes=0,is_exact:exact,time,peak_bytes:peak=0,folder,exists,readers=[]}){const line=(text2,name="")=>element("div",
name,{textContent:text2});if(error){this.ahead.replaceChildren(line(error,"aq-warning"));return}const where=folder===this.
done.folder?line(`${folder} is the last export; another one needs another name.`,"aq-where"):exists?line(`${folder} exis\
ts already; choose another name.`,"aq-warning"):line(`→ ${folder}`,"aq-where");this.ahead.replaceChildren(where,line(`${exact?
"":"at most "}${whole(nbytes)} bytes, ${time}, at most ${whole(Math.round(peak/1e6))} MB of memory`),...readers.map(sentence=>line(
sentence)))}showExported(exported){this.done.show(exported);if(exported&&!this.exports.root.hidden)this.predict()}showTarget(target,names){
this.shownTarget=this.target.value=target;this.names.value=names}refresh(totals){if(!totals)return;this.totals=totals;const{
budget,steps,table}=this;const{plan,connection:{dead}}=table;this.typed.size.show(megabytes(totals.nbytes));this.typed.price.
show(significant(totals.temperature).replace("−","-"));if(steps&&!this.dragging){const[low,high]=steps.range(plan).map(
bytes=>bytes+plan.overhead);Object.assign(budget,{min:low,max:Math.max(high,low+1),value:totals.nbytes})}budget.setAttribute(
"aria-valuetext",size(totals.nbytes));const controls=this.root.querySelectorAll("input, select, button");for(const control of controls){
if(control!==table.bar.undo&&control!==table.bar.redo)control.disabled=dead||control===budget&&!steps}if(this.version!==
void 0&&this.version!==plan.version&&!this.exports.root.hidden)this.predict();this.version=plan.version}};var KINDS2=["scatter","groups","growth","samples"];var CHARTS={scatter:["Predicted against measured",300],groups:["Error\
 by time group",240],growth:["Error along the steps",240],samples:["Final outputs",200]};var Validation=class{charts={};frames={};constructor(act,hasTime,onLayer){
this.runs=element("input","aq-runs",{type:"number",min:"1",max:"99",value:"3"});this.modes=element("select","aq-choice",
{},...["none",...hasTime?["int8-time","int8-static"]:[]].map(value=>element("option","",{value,textContent:value})));this.
alone=element("input","",{type:"checkbox"});this.run=button("Run the plan","Run the plan in the model, and compare",()=>act(
"validate",{runs:Math.max(1,Math.round(this.runs.valueAsNumber)||1),activations:this.modes.value,alone:this.alone.checked}),
"aq-primary");this.learn=button("Learn from it","Correct the predicted damage by what was measured",()=>act("learn"));const labelled=(text2,control,title)=>element(
"label","aq-field",{title},element("span","",{textContent:text2}),control);this.controls=element("div","aq-validation-ba\
r",{},labelled("runs",this.runs,"how often to generate"),labelled("activations",this.modes,"rounding of the layers' inpu\
ts to eight bits"),labelled("each layer alone",this.alone,"also with one layer quantized at a time: all runs for each la\
yer; learning from it says most"),this.run,this.learn);this.slot=element("div","aq-slot");this.lacking=element("div","aq\
-lacking");this.facts=element("dl","aq-facts");this.stale=element("div","aq-stale");for(const key of KINDS2){const[title,
height]=CHARTS[key];this.charts[key]=new Chart({label:title,height,onClick:key==="scatter"?onLayer:void 0});this.frames[key]=
element("figure","aq-figure",{hidden:true},element("figcaption","",{textContent:title}),this.charts[key].root)}this.root=
element("div","aq-validation",{},this.controls,this.slot,this.lacking,this.facts,this.stale,...Object.values(this.frames))}show(validation,busy){
this.lacking.textContent=validation.lacking??"";this.controls.hidden=Boolean(validation.lacking);this.run.disabled=busy;
this.learn.disabled=busy||!validation.can_learn;this.facts.replaceChildren(...(validation.facts??[]).flatMap(pair=>pair.
map((text2,place)=>element(place?"dd":"dt","",{textContent:text2}))));this.stale.textContent=validation.stale?`Note: ${validation.
stale}.`:"";for(const key of KINDS2){this.frames[key].hidden=!validation[key];if(validation[key])this.charts[key].show(validation[key])}}};var figure=(title,chart)=>element("figure","aq-figure",{},element("figcaption","",{textContent:title}),chart.root);function layerAt({
y,customdata}){const name=Array.isArray(customdata)?customdata[0]:y;return String(name).replaceAll("&lt;","<").replaceAll(
"&gt;",">").replaceAll("&amp;","&")}var escaped=name=>name.replaceAll("&","&amp;").replaceAll("<","&lt;").replaceAll(">",
"&gt;");var DETAILS=["weights","channels","time"];var Panel=class{target="";naming="";job=null;toolbar;details={};frames={};allCharts=[];overview=element(
"div","aq-figures");title=element("div","aq-closeup-title",{textContent:"Choose a layer to see its weights and its error\
 from close by."});closer=element("div","aq-closer",{hidden:true});closeup=element("div","aq-closeup",{},this.title,this.
closer);constructor(model,host){this.model=model;const header=model.get("data").header;this.top=element("div","aq-above");
this.left=element("div","aq-left");this.jobs=new JobBar(()=>this.root,()=>this.table.act({act:"cancel"}));this.script=new ScriptLine(
header.opening);this.charts=this.makeCharts(header);this.validation=new Validation((act,content)=>this.table.act({act,...content}),
header.has_time,click=>this.choose(layerAt(click)));this.allCharts.push(...Object.values(this.validation.charts));const tabs=new Tabs(
{Figures:this.overview,Validation:this.validation.root});this.root=element("div","aq-view aq-panel",{},this.top,element(
"div","aq-main",{},this.left,tabs.root),this.script.root);host.append(this.root);this.table=new Table(model,this.left,{hear:message=>this.
hear(message),settled:message=>this.settled(message),refreshed:totals=>this.toolbar?.refresh(totals),chosen:()=>this.mark(),
renewed:()=>this.renewed(),dismissed:()=>this.table.connection.send({type:"dismiss"})});const toolbar=new Toolbar(this.table,
header);this.toolbar=toolbar;toolbar.onDrawer=()=>this.showJob(this.job);tabs.onChange=()=>this.showJob(this.job);toolbar.
done.show(header.exported);this.top.append(toolbar.root,this.table.totals.root,this.table.strip.root);this.left.append(this.
closeup);this.renewed();if(header.message_bar.text)this.table.strip.say(header.message_bar.text,header.message_bar.kind);
this.showJob(header.job);this.table.refresh();this.follows=[["change:overview",()=>this.showOverview()],["change:closeup",
()=>this.showCloseup()],["change:steps",()=>this.showSteps()],["change:validation",()=>this.showValidation()]];for(const[
event,act]of this.follows){model.on(event,act);act()}this.unfollowTheme=followTheme(this.root,()=>{for(const chart of this.
allCharts)chart.later()});this.root.addEventListener(KEY,event=>this.key(event));this.freeKeys=keepKeys(this.root)}makeCharts(header){
const toLayer=click=>this.choose(layerAt(click));const chart=(label,height,onClick=void 0)=>new Chart({label,height,onClick});
const charts={front:chart("Damage against size: the front of best plans, policies, and the present plan",300,({x})=>this.
table.act({act:"solve",bpw:Number(x)})),depth:chart("Entropy of the weights and of the choice along depth, coloured by b\
its",300,toLayer),heat:chart("Heat map of the layers",300,toLayer)};this.details={weights:chart("Histogram of the layer'\
s weights with the levels of its codes",220),channels:chart("Error of the layer's weights by input channel",220),...header.
has_time?{time:chart("Range of the layer's input over denoising time",220)}:{}};this.allCharts=[...Object.values(charts),
...Object.values(this.details)];const{front,depth,heat}=charts;this.overview.append(figure("Damage against size",front),
figure("Entropy along depth",depth),figure(header.has_time?"Damage over denoising time":"Damage at each width",heat));const titles={
weights:"Weights and code levels",channels:"Error by channel",time:"Input over denoising time"};this.frames=Object.fromEntries(
Object.entries(this.details).map(([key,one])=>[key,figure(titles[key],one)]));this.closer.append(...Object.values(this.frames));
return charts}key(event){const action=keyOf(event)?.action;if(event.defaultPrevented||action!=="undo"&&action!=="redo")return;
event.preventDefault();event.stopPropagation();this.table.edit(action)}hear(message){if(message.type==="predicted")this.
toolbar?.predicted(message);else if(message.type==="message_bar"){this.table.strip.say(message.text,message.kind);this.table.
say(message.text)}else if(message.type==="job"){this.showJob(message.job);if(!message.job)this.toolbar?.showTarget(this.
target,this.naming)}else if(message.type==="exported")this.toolbar?.showExported(message.exported)}settled({target="",naming="",
script=[],base,ack,error,question}){this.target=target;this.naming=naming;this.script.add(script,base);if(this.jobs.root.
hidden)this.toolbar?.showTarget(target,naming);if(question)this.toolbar?.ask(question);else if(!error)this.toolbar?.solved(
ack)}renewed(){const{header}=this.model.get("data");this.settled({...header,base:0})}choose(name){const row=this.table.plan.
names.indexOf(name);if(row<0)return;this.table.choose(()=>{this.table.selection.rows=new Set([row]);this.table.point(row)})}mark(){
const{plan,selection}=this.table;const names=[...selection.rows].map(row=>escaped(plan.names[row]));this.charts.depth.mark(
names);this.charts.heat.mark(names)}showOverview(){const specs=this.model.get("overview");for(const[key,chart]of Object.
entries(this.charts))chart.show(specs[key]);this.mark()}showCloseup(){const specs=this.model.get("closeup");this.closer.
hidden=!specs.layer;if(!specs.layer)return;this.title.replaceChildren(element("b","",{textContent:specs.layer}),` ${specs.
text}`);for(const key of DETAILS){const chart=this.details[key];if(!chart)continue;this.frames[key].style.visibility=specs[key]?
"":"hidden";chart.show(specs[key]??"")}}showJob(job){this.job=job;if(!this.toolbar)return;const place={export:this.toolbar.
exportSlot,validation:this.validation.slot}[job?.place??""];this.jobs.show(job,place?.closest("[hidden]")===null?place:this.
toolbar.slot);this.showValidation()}showValidation(){this.validation.show(this.model.get("validation"),!this.jobs.root.hidden)}showSteps(){
const steps=this.model.get("steps");this.toolbar?.setSteps(steps&&new Steps(unpack(steps.layout,steps.blob)))}close(){for(const[
event,act]of this.follows)this.model.off(event,act);this.unfollowTheme();this.freeKeys();for(const chart of this.allCharts)
chart.close();this.jobs.close();this.table.close()}};var panel_default={render({model,el}){const panel=new Panel(model,el);
return()=>panel.close()}};export{panel_default as default};
