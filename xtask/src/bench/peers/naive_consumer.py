"""What most people write first: consume, json.loads, executemany, commit, then commit the offsets."""

import json
import sys

import pymysql
from confluent_kafka import Consumer

brokers, topic, group, host, port, database, table, fields = sys.argv[1:]
fields = fields.split(",")
connection = pymysql.connect(host=host, port=int(port), user="root", database=database)
cursor = connection.cursor()
names = ", ".join(f"`{name}`" for name in fields)
insert = f"INSERT INTO `{table}` ({names}) VALUES ({', '.join(['%s'] * len(fields))})"
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    }
)
consumer.subscribe([topic])
while True:
    messages = consumer.consume(1000, 1.0)
    rows = [tuple(record.get(name) for name in fields) for record in (json.loads(m.value()) for m in messages)]
    if rows:
        cursor.executemany(insert, rows)
        connection.commit()
        consumer.commit(asynchronous=False)
