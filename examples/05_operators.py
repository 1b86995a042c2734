"""Rules from rules: alternatives, templates, quotations, free text up to a stop, an answer after thinking.

python examples/05_operators.py
python examples/05_operators.py --real
"""

import sys

import genctl

lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")

# A str stands for itself; "-" takes texts away.
name = genctl.regex("[A-Z][a-z]{2,5}") - genctl.choice(["Alan", "Name"])
card = genctl.template("Name: {name}, age {age}", name=name, age=genctl.choice(range(18, 100)))
print(lm.generate("A mathematician. ", card, max_new_tokens=20, seed=0).value)

# A choice gives back what its text stands for.
print(lm.generate("the answer is ", genctl.choice({"yes": True, "no": False}), max_new_tokens=5, seed=0).value)

# A quotation is whole words of the text, in its order.
source = "A short holiday in Lisbon: 3 days of sun."
quote = '"' + genctl.substring(source, unit="words", least=2, most=5) + '"'
print(lm.generate(f"{source} Quote: ", quote, max_new_tokens=30, seed=1).text)

# Free text ends with the first stop. Behind a trigger only the rule counts; & with a pattern bounds the whole.
print(repr(lm.generate("the cat ", genctl.until([".", " on"]), max_new_tokens=60, seed=0).value))
thinking = genctl.after(".", genctl.choice([" yes", " no"])) & genctl.regex("(?s).{5,60}")
g = lm.generate("anna saw otto at noon", thinking, max_new_tokens=60, seed=0)
print(repr(g.text), "->", repr(g.value))

# Everything goes under every operator, predicates under & only.
greeting = ("Dear " | "never " + ("odd" | name) + " ") + name.repeat(1, 2)
print(lm.generate("", greeting & (lambda text, done: len(set(text)) < 12), max_new_tokens=30, seed=0).text)
try:
    greeting | (lambda text, done: True)
except genctl.ConstraintError as error:
    print("refused:", error)
