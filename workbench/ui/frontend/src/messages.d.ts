// Made by build.js from messages.schema.json, which states workbench.ui.messages.

export type Messages = FromBrowser | ToBrowser | Header;
export type FromBrowser = Hello | Edit | AskOptions | AskFilter | AddColumn | RemoveColumn | Predict | Dismiss | Do;
export type ToBrowser =
  | PlanChanged
  | Here
  | Options
  | Filtered
  | Columns
  | Focus
  | Failed
  | MessageBarChanged
  | JobChanged
  | ExportChanged
  | Predicted;

/**
 * Asks for the plan, unless the session is at this version still.
 */
export interface Hello {
  id: string;
  view?: string;
  turn?: number;
  type: "hello";
  version?: number;
}
/**
 * Edits layers, by index, or goes a step back or forth: one step of undo.
 */
export interface Edit {
  id: string;
  view?: string;
  turn?: number;
  type: "edit";
  action: "bits" | "keep" | "lock" | "unlock" | "undo" | "redo";
  rows?: number[];
  bits?: number;
  scheme?: string;
  group_size?: number;
}
/**
 * Asks for the schemes and group sizes that a layer can have at its width.
 */
export interface AskOptions {
  id: string;
  view?: string;
  turn?: number;
  type: "options";
  row: number;
}
/**
 * Asks which layers meet a condition.
 */
export interface AskFilter {
  type: "filter";
  text: string;
}
/**
 * Adds a column by an expression.
 */
export interface AddColumn {
  id: string;
  view?: string;
  turn?: number;
  type: "add_column";
  title: string;
  expression: string;
}
/**
 * Removes a column that was added.
 */
export interface RemoveColumn {
  id: string;
  view?: string;
  turn?: number;
  type: "remove_column";
  title: string;
}
/**
 * Asks what exporting into a folder will take.
 */
export interface Predict {
  id: string;
  view?: string;
  turn?: number;
  type: "predict";
  folder: string;
}
/**
 * The message bar was closed.
 */
export interface Dismiss {
  type: "dismiss";
}
/**
 * What the toolbar asks for; each act has its own arguments, see `Actions.do`.
 */
export interface Do {
  id: string;
  view?: string;
  turn?: number;
  type: "do";
  act:
    | "solve"
    | "budget"
    | "follow"
    | "lock"
    | "unlock"
    | "retarget"
    | "save"
    | "load"
    | "export"
    | "validate"
    | "learn"
    | "cancel";
  size?: string | number;
  nbytes?: number;
  bpw?: number;
  temperature?: number;
  edits?: "lock" | "replace";
  policy?: string;
  role?: string;
  target?: string;
  names?: string;
  path?: string;
  overwrite?: boolean;
  folder?: string;
  runs?: number;
  activations?: string;
  alone?: boolean;
}
/**
 * The layers that changed since version ``base``, and all that is said of all; answers edits and acts.
 */
export interface PlanChanged {
  version: number;
  can_undo: boolean;
  can_redo: boolean;
  columns: ExtraColumn[];
  layout: [string, "u1" | "u2" | "u4" | "f4" | "f8", number, number][];
  target?: string;
  naming?: string;
  script?: string[];
  type: "plan";
  base: number;
  ack?: string | null;
  note?: string;
  error?: string;
  question?: Question;
}
/**
 * A column by an expression; its values are the array ``column_0``, ``column_1``, ….
 */
export interface ExtraColumn {
  title: string;
  expression: string;
  kind: "number" | "truth";
}
/**
 * What is asked before something would be lost; nothing has been done yet.
 */
export interface Question {
  text: string;
  choices: Choice[];
}
/**
 * An answer to a question, and what the browser sends then.
 */
export interface Choice {
  label: string;
  message: {
    [k: string]: unknown;
  };
}
/**
 * The session is there, at this version; the request was answered before or asked for nothing new.
 */
export interface Here {
  type: "here";
  ack: string | null;
  version?: number;
}
/**
 * Answers `AskOptions`.
 */
export interface Options {
  type: "options";
  ack: string | null;
  row: number;
  options: Variant[];
}
/**
 * An option of a layer that has the width of its present one.
 */
export interface Variant {
  bits: number;
  scheme: string;
  group: number;
  nbytes: number;
  damage: number;
  present: boolean;
}
/**
 * Answers a condition: the buffer has a byte a layer, unless there is an error.
 */
export interface Filtered {
  type: "filter";
  text: string;
  error?: string;
}
/**
 * The added columns, or why one cannot be added.
 */
export interface Columns {
  type: "columns";
  ack: string | null;
  layout?: [string, "u1" | "u2" | "u4" | "f4" | "f8", number, number][];
  columns?: ExtraColumn[];
  error?: string;
}
/**
 * Puts the cursor on a layer.
 */
export interface Focus {
  type: "focus";
  row: number;
}
/**
 * An error that answers nothing.
 */
export interface Failed {
  type: "error";
  error: string;
}
/**
 * Another message is in the message bar.
 */
export interface MessageBarChanged {
  text: string;
  kind: "error" | "note";
  type: "message_bar";
}
/**
 * How far the job is; None when it has ended.
 */
export interface JobChanged {
  type: "job";
  job: Job | null;
}
/**
 * How far the job is that runs.
 */
export interface Job {
  fraction: number;
  text: string;
  stopping: boolean;
  place: string;
}
/**
 * Another export is the last one.
 */
export interface ExportChanged {
  type: "exported";
  exported: Exported | null;
}
/**
 * The last export, and the lines that load it.
 */
export interface Exported {
  folder: string;
  text: string;
  lines: string;
}
/**
 * Answers `Predict`: what an export will take and what loads it, or why it cannot be.
 */
export interface Predicted {
  type: "predicted";
  ack: string | null;
  error?: string;
  nbytes?: number;
  is_exact?: boolean;
  peak_bytes?: number;
  time?: string;
  folder?: string;
  exists?: boolean;
  readers?: string[];
}
/**
 * The trait ``data`` but for its buffer; a panel has what follows ``source_bytes``.
 */
export interface Header {
  version: number;
  can_undo: boolean;
  can_redo: boolean;
  columns: ExtraColumn[];
  layout: [string, "u1" | "u2" | "u4" | "f4" | "f8", number, number][];
  target?: string;
  naming?: string;
  script?: string[];
  names: string[];
  shapes: string[];
  roles: string[];
  schemes: string[];
  model_id: string;
  source_bytes: number;
  model?: string;
  targets?: string[];
  policies?: string[];
  about_policies?: {
    [k: string]: string;
  };
  opening?: string;
  message_bar?: BarMessage;
  job?: Job | null;
  possible_names?: string[];
  exported?: Exported | null;
  has_time?: boolean;
}
/**
 * The message in the message bar; an empty text closes it.
 */
export interface BarMessage {
  text: string;
  kind: "error" | "note";
}
