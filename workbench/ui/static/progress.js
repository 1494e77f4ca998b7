/* Bundled by esbuild from workbench/ui/frontend/src; sha256 7412f084aca00c8bca5fc7e5e21836e46a4004da3f1f824796de3dac2e0b992d */
var PATIENCE=3e3;function render({model,el}){const root=document.createElement("div");root.className="aq-progress";const title=document.
createElement("span");title.className="aq-progress-title";const bar=document.createElement("progress");bar.max=1;const text=document.
createElement("span");text.className="aq-progress-text";const button=document.createElement("button");button.type="butto\
n";button.textContent="Cancel";button.title="Stop; interrupting the cell does the same";root.append(title,bar,text,button);
el.append(root);let waiting;const show=()=>{const{fraction,text:said}=model.get("status");title.textContent=model.get("t\
itle");bar.value=fraction;bar.setAttribute("aria-label",model.get("title"));const ended=model.get("ended");bar.hidden=button.
hidden=ended!=="";root.classList.toggle("aq-progress-ended",ended!=="");button.disabled=model.get("stopping")||waiting!==
void 0;if(ended!==""){clearTimeout(waiting);text.textContent=ended;text.setAttribute("role","alert")}else if(model.get("\
stopping")){clearTimeout(waiting);text.textContent="stopping …"}else if(waiting===void 0){text.textContent=said}};button.
addEventListener("click",()=>{model.send({type:"cancel"});text.textContent="stopping …";waiting=setTimeout(()=>{text.textContent=
"This front end keeps the click until the cell ends. Interrupt the cell (■) to stop it."},PATIENCE);show()});model.on(
"change",show);show();return()=>{clearTimeout(waiting);model.off("change",show)}}var progress_default={render};export{progress_default as default};
