// What the files of the front end share; the messages' shapes are in messages.d.ts.

import type { Do, FromBrowser, Header } from "./messages.js";
import type { LayerPlan } from "./plan.js";

/** What the typed arrays have in common. */
export interface Numbers {
  readonly length: number;
  [place: number]: number;
  [Symbol.iterator](): IterableIterator<number>;
  forEach(act: (value: number, place: number) => void): void;
  reduce(act: (sum: number, value: number) => number, start: number): number;
  slice(): Numbers;
}

/** Arrays by name, as `unpack` gives them. */
export type Arrays = Record<string, Numbers>;

type Addressed = "id" | "view" | "turn";
type Unaddressed<Message> = Message extends unknown ? Omit<Message, Addressed> : never;

/** A message to the kernel as its sender writes it: who sends it in which turn is added on the way. */
export type Content = Unaddressed<FromBrowser>;

/** What a toolbar asks for. */
export type Act = Omit<Do, Addressed | "type">;

/** A panel's header, which has all that a table's may lack. */
export type PanelHeader = Required<Header>;

/** The trait `data`. */
export interface State<Kind extends Header = Header> {
  header: Kind;
  blob: ArrayBufferView;
}

export type Action = "bits" | "keep" | "lock" | "unlock" | "undo" | "redo";

/** An edit by a button or a key; `toggle` locks or unlocks. */
export type EditAction = Action | "toggle";

/** An edit that is shown before the kernel has answered it; `act` changes what only the kernel knows. */
export interface Proposal {
  action?: Action | "act";
  rows?: number[];
  bits?: number;
  /** What the rows get instead of an entry of their menus: arrays of options, and the place of each row's in them. */
  options?: Record<string, ArrayLike<number>>;
  places?: number[];
}

/** A scheme and a group size of a width, named by the menu. */
export interface Variety {
  scheme: string;
  group_size: number;
}

/** One of the different options of a layer, with the key that gives it. */
export interface MenuOption {
  key: number | "keep";
  present: boolean;
  bits: number;
  scheme: number;
  group: number;
  nbytes: number;
  damage: number;
}

/** A column of the table; see columnsOf. */
export interface Column {
  key: string;
  /** The heading. */
  title: string;
  /** What the heading means, under the pointer. */
  hint: string;
  /** The heading in words. */
  label?: string;
  /** In pixels. */
  width: number;
  /** What the column sorts by. */
  value(plan: LayerPlan, row: number): number | string;
  compare?(one: string, other: string): number;
  draw(cell: HTMLElement, plan: LayerPlan, row: number): void;
  right?: boolean;
  sticky?: boolean;
  /** Whether the reader added it, and can remove it. */
  custom?: boolean;
  /** What all names begin with, beside the heading. */
  note?: string;
  /** The width that a column takes by itself, from the room beside the others, the table's width and the chosen one. */
  fit?(room: number, table: number, chosen?: number): { width: number; changed: boolean };
  setFont?(font: string): void;
}

/** What can be done to the columns from a header. */
export type Arrangement = "left" | "right" | "hide" | "menu";

/** A trace of a plotly figure, as far as it is changed here. */
export interface Trace {
  type?: string;
  name?: string;
  y?: unknown[];
  customdata?: unknown;
  marker?: { size?: number; color?: string };
  line?: { color?: string };
}

/** A layout of a plotly figure, as far as it is changed here; also its axes by their names. */
export interface Layout {
  [key: string]: unknown;
  font?: object;
  legend?: object;
  shapes?: { line?: object }[];
}

/** A plotly figure. */
export interface Figure {
  data: Trace[];
  layout: Layout;
  config?: object;
}

/** What of plotly.js is used. */
export interface Plotly {
  react(root: HTMLElement, data: Trace[], layout: Layout, config: object): unknown;
  purge(root: HTMLElement): void;
}

/** What a plotly chart is, once it is drawn. */
export interface PlotlyElement extends HTMLElement {
  on(event: "plotly_click", act: (event: { points: PlotlyPoint[] }) => void): void;
}

interface PlotlyPoint {
  x?: unknown;
  y?: unknown;
  customdata?: unknown;
  data: Trace;
}

/** What of a chart was clicked; `name` is that of its trace. */
export interface ChartClick {
  x?: unknown;
  y?: unknown;
  customdata?: unknown;
  name: string;
}

/** The trait `validation`; figures are plotly's JSON. */
export interface ValidationState {
  lacking?: string;
  stale?: string;
  can_learn?: boolean;
  facts?: [name: string, text: string][];
  scatter?: string;
  groups?: string;
  growth?: string;
  samples?: string;
}

/** The traits of a table. */
export interface TableTraits {
  data: State;
  selected: number[];
  current: number;
  filter: string;
  sort: string;
  widths: Record<string, number>;
  column_order: string[];
  hidden_columns: string[];
  min_cosine: number;
  height: number;
}

/** The traits of a panel; figures are plotly's JSON. */
export interface PanelTraits extends TableTraits {
  data: State<PanelHeader>;
  overview: Record<string, string>;
  closeup: { layer?: string; text?: string; weights?: string; channels?: string; time?: string };
  steps: { layout: Header["layout"]; blob: ArrayBufferView } | null;
  validation: ValidationState;
}

/** The traits of a progress bar. */
export interface ProgressTraits {
  title: string;
  status: { fraction: number; text: string };
  stopping: boolean;
  ended: string;
}

/** The trait of the widget that brings plotly.js: its gzipped text. */
export interface LibraryTraits {
  source: DataView<ArrayBuffer> | null;
}

/** A widget's model as anywidget hands it over. */
export interface Model<Traits = TableTraits> {
  get<Name extends keyof Traits>(name: Name): Traits[Name];
  set<Name extends keyof Traits>(name: Name, value: Traits[Name]): void;
  save_changes(): void;
  send(message: object): void;
  on(event: string, act: (...values: never[]) => void): void;
  off(event: string, act: (...values: never[]) => void): void;
  widget_manager?: { kernel?: Kernel; context?: { model?: Notebook } };
}

interface Signal<Value> {
  connect?(act: (sender: unknown, value: Value) => void): void;
  disconnect?(act: (sender: unknown, value: Value) => void): void;
}

/** JupyterLab's connection to a kernel; other front ends have less of it, or none. */
export interface Kernel {
  statusChanged?: Signal<string>;
  iopubMessage?: Signal<KernelMessage>;
  requestCommInfo?(content: { target_name: string }): Promise<{
    content: { status: "ok"; comms: Record<string, object> } | { status: "error" };
  }>;
}

/** What a display shows, by MIME type. */
export interface Display {
  data?: Record<string, string | string[]>;
  metadata?: object;
  transient?: { display_id?: string };
}

export interface KernelMessage {
  header: { msg_type: string };
  content: Display;
}

interface List<Item> {
  readonly length: number;
  get(place: number): Item;
}

interface Outputs extends List<Display> {
  set(place: number, output: object): void;
}

/** JupyterLab's model of a notebook. */
export interface Notebook {
  cells?: List<{ outputs?: Outputs }>;
}

declare global {
  interface HTMLElementEventMap {
    "aq-keydown": KeyboardEvent;
  }
  interface Element {
    /** The page writes numbers and truth values as texts. */
    setAttribute(name: string, value: number | boolean): void;
  }
}
