"""Objects, not strings: a pydantic model, plain types, and a JSON Schema.

python examples/02_json_schema.py
python examples/02_json_schema.py --real
"""

import sys
from typing import Literal

from pydantic import BaseModel, Field

import genctl


class Trip(BaseModel):
    city: str = Field(max_length=12)
    days: int = Field(ge=1, le=14)


lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
prompt = "A short holiday in Lisbon: 3 days of sun.\nJSON: "

g = lm.generate(prompt, Trip, max_new_tokens=60, seed=2)
print(repr(g.value), "from", repr(g.text))

print(lm.generate("the answer is ", Literal["yes", "no", "maybe"], max_new_tokens=5, seed=0).value)
print(lm.generate("Two digits: ", tuple[Literal[1, 2, 3], bool | None], max_new_tokens=20, seed=3).value)

schema = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"]}
closed = {**schema, "additionalProperties": False}
print(lm.generate(prompt, closed, max_new_tokens=40, seed=1).value)

# What cannot be enforced is refused, with the place.
try:
    genctl.json({"type": "object", "properties": {"when": {"type": "string", "format": "date"}}})
except genctl.ConstraintError as error:
    print("refused", error)
