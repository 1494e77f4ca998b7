"""What a view and its session send each other: each message's shape, stated once for Python and for the browser.

The browser's types are made of it: ``frontend/messages.schema.json`` is what `schema` returns, and ``npm run build``
makes ``frontend/src/messages.d.ts`` of that. Tests check what is really sent against `FROM_BROWSER` and `TO_BROWSER`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema
from typing_extensions import TypeAliasType, TypedDict

Layout = list[tuple[str, Literal["u1", "u2", "u4", "f4", "f8"], int, int]]
"""Name, kind, offset in bytes and number of items of each array in a buffer, see `workbench.ui.table.packing`."""


class ExtraColumn(TypedDict):
    """A column by an expression; its values are the array ``column_0``, ``column_1``, …."""

    title: str
    expression: str
    kind: Literal["number", "truth"]


class Variant(TypedDict):
    """An option of a layer that has the width of its present one."""

    bits: int
    scheme: str
    group: int
    nbytes: float
    damage: float
    present: bool


class Choice(TypedDict):
    """An answer to a question, and what the browser sends then."""

    label: str
    message: dict[str, Any]


class Question(TypedDict):
    """What is asked before something would be lost; nothing has been done yet."""

    text: str
    choices: list[Choice]


class Job(TypedDict):
    """How far the job is that runs."""

    fraction: float
    text: str
    stopping: bool
    place: str


class BarMessage(TypedDict):
    """The message in the message bar; an empty text closes it."""

    text: str
    kind: Literal["error", "note"]


class Exported(TypedDict):
    """The last export, and the lines that load it."""

    folder: str
    text: str
    lines: str


# ---- from the browser ---------------------------------------------------------------------------------------------


class Request(TypedDict):
    """What is answered: the answer has the ``id`` as ``ack``. `view` and `turn` put requests in order, see `Inbox`."""

    id: str
    view: NotRequired[str]
    turn: NotRequired[int]


class Hello(Request):
    """Asks for the plan, unless the session is at this version still."""

    type: Literal["hello"]
    version: NotRequired[int]


class Edit(Request):
    """Edits layers, by index, or goes a step back or forth: one step of undo."""

    type: Literal["edit"]
    action: Literal["bits", "keep", "lock", "unlock", "undo", "redo"]
    rows: NotRequired[list[int]]
    bits: NotRequired[int]
    scheme: NotRequired[str]
    group_size: NotRequired[int]


class AskOptions(Request):
    """Asks for the schemes and group sizes that a layer can have at its width."""

    type: Literal["options"]
    row: int


class AskFilter(TypedDict):
    """Asks which layers meet a condition."""

    type: Literal["filter"]
    text: str


class AddColumn(Request):
    """Adds a column by an expression."""

    type: Literal["add_column"]
    title: str
    expression: str


class RemoveColumn(Request):
    """Removes a column that was added."""

    type: Literal["remove_column"]
    title: str


class Predict(Request):
    """Asks what exporting into a folder will take."""

    type: Literal["predict"]
    folder: str


class Dismiss(TypedDict):
    """The message bar was closed."""

    type: Literal["dismiss"]


class Do(Request):
    """What the toolbar asks for; each act has its own arguments, see `Actions.do`."""

    type: Literal["do"]
    act: Literal[
        "solve",
        "budget",
        "follow",
        "lock",
        "unlock",
        "retarget",
        "save",
        "load",
        "export",
        "validate",
        "learn",
        "cancel",
    ]
    size: NotRequired[str | int]
    nbytes: NotRequired[int]
    bpw: NotRequired[float]
    temperature: NotRequired[float]
    edits: NotRequired[Literal["lock", "replace"]]
    policy: NotRequired[str]
    role: NotRequired[str]
    target: NotRequired[str]
    names: NotRequired[str]
    path: NotRequired[str]
    overwrite: NotRequired[bool]
    folder: NotRequired[str]
    runs: NotRequired[int]
    activations: NotRequired[str]
    alone: NotRequired[bool]


FromBrowser = TypeAliasType(
    "FromBrowser", Hello | Edit | AskOptions | AskFilter | AddColumn | RemoveColumn | Predict | Dismiss | Do
)


# ---- to the browser -----------------------------------------------------------------------------------------------


class Present(TypedDict):
    """What stands beside the rows, in the first state and in each plan; a panel has the last three."""

    version: int
    can_undo: bool
    can_redo: bool
    columns: list[ExtraColumn]
    layout: Layout
    target: NotRequired[str]
    naming: NotRequired[str]
    script: NotRequired[list[str]]


class Header(Present):
    """The trait ``data`` but for its buffer; a panel has what follows ``source_bytes``."""

    names: list[str]
    shapes: list[str]
    roles: list[str]
    schemes: list[str]
    model_id: str
    source_bytes: int
    model: NotRequired[str]
    targets: NotRequired[list[str]]
    policies: NotRequired[list[str]]
    about_policies: NotRequired[dict[str, str]]
    opening: NotRequired[str]
    message_bar: NotRequired[BarMessage]
    job: NotRequired[Job | None]
    possible_names: NotRequired[list[str]]
    exported: NotRequired[Exported | None]
    has_time: NotRequired[bool]


class PlanChanged(Present):
    """The layers that changed since version ``base``, and all that is said of all; answers edits and acts."""

    type: Literal["plan"]
    base: int
    ack: NotRequired[str | None]
    note: NotRequired[str]
    error: NotRequired[str]
    question: NotRequired[Question]


class Here(TypedDict):
    """The session is there, at this version; the request was answered before or asked for nothing new."""

    type: Literal["here"]
    ack: str | None
    version: NotRequired[int]


class Options(TypedDict):
    """Answers `AskOptions`."""

    type: Literal["options"]
    ack: str | None
    row: int
    options: list[Variant]


class Filtered(TypedDict):
    """Answers a condition: the buffer has a byte a layer, unless there is an error."""

    type: Literal["filter"]
    text: str
    error: NotRequired[str]


class Columns(TypedDict):
    """The added columns, or why one cannot be added."""

    type: Literal["columns"]
    ack: str | None
    layout: NotRequired[Layout]
    columns: NotRequired[list[ExtraColumn]]
    error: NotRequired[str]


class Focus(TypedDict):
    """Puts the cursor on a layer."""

    type: Literal["focus"]
    row: int


class Failed(TypedDict):
    """An error that answers nothing."""

    type: Literal["error"]
    error: str


class MessageBarChanged(BarMessage):
    """Another message is in the message bar."""

    type: Literal["message_bar"]


class JobChanged(TypedDict):
    """How far the job is; None when it has ended."""

    type: Literal["job"]
    job: Job | None


class ExportChanged(TypedDict):
    """Another export is the last one."""

    type: Literal["exported"]
    exported: Exported | None


class Predicted(TypedDict):
    """Answers `Predict`: what an export will take and what loads it, or why it cannot be."""

    type: Literal["predicted"]
    ack: str | None
    error: NotRequired[str]
    nbytes: NotRequired[int]
    is_exact: NotRequired[bool]
    peak_bytes: NotRequired[int]
    time: NotRequired[str]
    folder: NotRequired[str]
    exists: NotRequired[bool]
    readers: NotRequired[list[str]]


ToBrowser = TypeAliasType(
    "ToBrowser",
    PlanChanged
    | Here
    | Options
    | Filtered
    | Columns
    | Focus
    | Failed
    | MessageBarChanged
    | JobChanged
    | ExportChanged
    | Predicted,
)

_STRICT = ConfigDict(extra="forbid")

FROM_BROWSER: TypeAdapter[Any] = TypeAdapter(FromBrowser, config=_STRICT)
"""Checks that something is a message from the browser, with nothing in it that is not stated here."""

TO_BROWSER: TypeAdapter[Any] = TypeAdapter(ToBrowser, config=_STRICT)
"""The same for a message to the browser."""

HEADER: TypeAdapter[Any] = TypeAdapter(Header | None, config=_STRICT)
"""The same for the header of the trait ``data``."""


class _WithoutFieldTitles(GenerateJsonSchema):
    """A schema in which only the messages have names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema() -> dict[str, Any]:
    """The JSON schema of all messages, of which the browser's types are made."""
    every = TypeAdapter[Any](FromBrowser | ToBrowser | Header, config=_STRICT)
    return every.json_schema(schema_generator=_WithoutFieldTitles)
