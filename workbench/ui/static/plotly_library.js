/* Bundled by esbuild from workbench/ui/frontend/src; sha256 7412f084aca00c8bca5fc7e5e21836e46a4004da3f1f824796de3dac2e0b992d */
function waiting(){const made={started:false};made.promise=new Promise((resolve,reject)=>Object.assign(made,{resolve,reject}));
made.promise.catch(()=>{});return made}function sharedPlotly(){const page=globalThis;page.arrowquantPlotly??=waiting();return page.
arrowquantPlotly}async function loaded(bytes){const packed=new Blob([new Uint8Array(bytes.buffer,bytes.byteOffset,bytes.byteLength)]);const text=await new Response(
packed.stream().pipeThrough(new DecompressionStream("gzip"))).text();const wrapped=`const module = { exports: {} }, expo\
rts = module.exports, define = undefined;
${text}
export default module.exports;`;const address=URL.createObjectURL(new Blob([wrapped],{type:"text/javascript"}));try{return(await import(address)).
default}finally{URL.revokeObjectURL(address)}}var plotly_library_default={initialize({model}){const source=model.get("so\
urce");const shared=sharedPlotly();if(shared.started||!source?.byteLength)return;shared.started=true;loaded(source).then(
shared.resolve,shared.reject)}};export{plotly_library_default as default};
