"""Copies the first records of a topic into another of one partition; one of them gets a text where a number belongs."""

import json
import sys

from confluent_kafka import Consumer, Producer

brokers, source, target, records, poisoned, field = sys.argv[1:]
records, poisoned = int(records), int(poisoned)
consumer = Consumer({"bootstrap.servers": brokers, "group.id": target, "auto.offset.reset": "earliest"})
consumer.subscribe([source])
producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20})
copied = 0
while copied < records:
    for message in consumer.consume(min(1000, records - copied), 1.0):
        if message.error():
            sys.exit(f"cannot read {source}: {message.error()}")
        value = message.value()
        if copied == poisoned:
            record = json.loads(value)
            record[field] = "late"
            value = json.dumps(record).encode()
        producer.produce(target, key=message.key(), value=value)
        copied += 1
    producer.poll(0)
if producer.flush(60) > 0:
    sys.exit(f"not every record could be sent to {target}")
consumer.close()
