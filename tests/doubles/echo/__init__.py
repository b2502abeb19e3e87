"""An application for live tests: it answers with what it was asked, and asks others for the test.

    test --exec--> client.py in a pod --through its sidecar--> server.py in another pod

Both run as plain files inside pods, from a ConfigMap, and import nothing of ours.
"""
