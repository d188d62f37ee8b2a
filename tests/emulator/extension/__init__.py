"""What moto lacks, or gets wrong, of the AWS calls that the project makes.

Each module extends one service of moto in process, follows botocore's model of the
service, and names the AWS page it follows. None of them knows what Firebreak expects.
"""

from . import (
    autoscaling, cloudtrail, ec2, elb, events, guardduty, iam, organizations, rds, s3, securityhub, sns, speed, sts,
)


def install() -> None:
    """Put every addition in place. Call it before the server answers its first request."""
    for module in (
        ec2, autoscaling, cloudtrail, elb, events, guardduty, iam, organizations, rds, s3, securityhub, sns, speed, sts,
    ):
        module.install()
