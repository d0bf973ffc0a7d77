"""How the processes of a local stack are kept running, listened to and ended, whatever they are."""
