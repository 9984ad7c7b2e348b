"""What the function is compared with: the smallest useful one in Python, as the samples that people copy
have it. An event of EventBridge comes in, its JSON goes to a topic of SNS, nothing is kept.
"""

import json
import logging
import os

import boto3

logging.getLogger().setLevel(logging.INFO)
sns = boto3.client("sns")


def handler(event, context):
    logging.info("event %s", event["id"])
    text = json.dumps(event, indent=2)
    sns.publish(
        TopicArn=os.environ["TOPIC"],
        MessageStructure="json",
        Message=json.dumps({"default": text, "email": text}),
    )
    return {"statusCode": 200}
