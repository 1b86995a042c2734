"""Questions to a database: every text is a statement that it accepts, and runs read-only.

python examples/11_sql.py
python examples/11_sql.py --real
"""

import sqlite3
import sys

import genctl

shop = sqlite3.connect(":memory:")
shop.executescript("""
    CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT, city TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER, month TEXT, total REAL);
    INSERT INTO customers VALUES (1, 'Ann', 'Rome'), (2, 'Bob', 'Oslo');
    INSERT INTO orders VALUES (1, 1, 'May', 20), (2, 1, 'June', 35), (3, 2, 'May', 12.5);
""")
rule = genctl.sql(shop)
print(rule.explain_text("SELECT nmae FROM customers"))

lm = genctl.load() if "--real" in sys.argv else genctl.load("toy")
tables = "customers(id, name, city), orders(id, customer_id, month, total)"
shots = "Question: How many customers are there?\nSQL: SELECT count(*) FROM customers\n"
for question in ("Which cities do the customers live in?", "How many orders are there in May?"):
    prompt = f"Tables: {tables}\n{shots}Question: {question}\nSQL: "
    g = lm.generate(prompt, rule, max_new_tokens=40, num_particles=4, seed=1)
    print(f"{question}\n    {g.value.sql!r} ({g.finish_reason})\n    {g.value.rows(limit=3, timeout=1.0)}")
