// What the files of the front end share; the messages' shapes are in messages.d.ts.

import type { Do, FromBrowser, Header } from "./messages.js";

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
export interface State {
  header: Header;
  blob: ArrayBufferView;
}

export type Action = "bits" | "keep" | "lock" | "unlock" | "undo" | "redo";

/** An edit that is shown before the kernel has answered it; `act` changes what only the kernel knows. */
export interface Proposal {
  action?: Action | "act";
  rows?: number[];
  bits?: number;
  /** What the rows get instead of an entry of their menus: arrays of options, and the place of each row's in them. */
  options?: Record<string, ArrayLike<number>>;
  places?: number[];
}

/** A column of the table; see columnsOf. */
export interface Column {
  key: string;
  title: string;
  value(plan: import("./plan.js").LayerPlan, row: number): any;
  compare?(one: string, other: string): number;
}

/** A widget's model as anywidget hands it over. */
export interface Model {
  get(name: string): any;
  set(name: string, value: unknown): void;
  save_changes(): void;
  send(message: object): void;
  on(event: string, act: (...values: any[]) => void): void;
  off(event: string, act: (...values: any[]) => void): void;
  widget_manager?: { kernel?: any; context?: any };
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
