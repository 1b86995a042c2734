"""JSON Schema as automata: keywords enforced exactly, or refused with their JSON pointer.

    compile_json_schema({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1})
    sorted(word for word, rule in RULES.items() if rule.handling == "automaton")

One file a keyword family (numbers, strings, arrays, objects, values); rules.py is the table of all keywords.
"""

from genctl.compilers.json_schema.compile import compile_json_schema, compile_schema, schema_grammar
from genctl.compilers.json_schema.context import PropertyOrder
from genctl.compilers.json_schema.rules import RULES, Rule

__all__ = ["RULES", "PropertyOrder", "Rule", "compile_json_schema", "compile_schema", "schema_grammar"]
