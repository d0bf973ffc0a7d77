"""The built-in Pub/Sub server: google.pubsub.v1 in memory, no client and nothing on disk.

It serves laptops without the gcloud SDK. Run `python -m rejeu.local.servers.pubsub --host 127.0.0.1 --port 8085`
and name the address in `PUBSUB_EMULATOR_HOST`.

    __main__      argv, port, signals
    service       the two gRPC services, one row a method
    broker        topics and subscriptions by name, and publishing
    subscription  what waits, what is out, what comes back
    wire          protobuf classes, limits, names and refusals

Everything runs on one event loop, so nothing needs a lock; one core then takes far more than our clients send.
Where the cloud is stricter than Google's emulator (sizes, deadlines, project ids, order after a refusal, flow control)
it follows the cloud. What it does not do (push, filters, dead-letter topics, exactly-once, schemas, snapshots) it
refuses with UNIMPLEMENTED instead of ignoring it; retention, expiry and retry policies are stored and not applied.
"""
