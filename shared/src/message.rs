//! Messages to people, by the topic.

use aws_sdk_sns::types::MessageAttributeValue;

use crate::aws::Aws;
use crate::failure::{Class, Failure};
use crate::report::Report;
use crate::run::Outcome;

/// A message, with what a subscription can filter on (SNS message attributes): `page` = `true` is for what must wake
/// somebody.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// At most 100 characters of ASCII.
    pub(crate) subject: String,
    /// What is said.
    pub(crate) text: String,
    /// How something ended, where that is what is said.
    pub(crate) outcome: Option<Outcome>,
    /// Whether somebody must be woken.
    pub(crate) page: bool,
}

impl Message {
    /// A report as a message.
    pub(crate) fn of(report: &Report) -> Self {
        Self { subject: report.subject(), text: report.message(), outcome: Some(report.outcome), page: report.page }
    }

    /// Hands it to the topic. `about` is the target, or what else it is about, for the error.
    pub(crate) async fn publish(self, aws: &Aws, topic: &str, about: &str) -> Result<(), Failure> {
        let attribute = |value: &str| {
            MessageAttributeValue::builder()
                .data_type("String")
                .string_value(value)
                .build()
                .map_err(|error| Failure::new(Class::Bug, "write the message attributes of", about).because(error))
        };
        let call = aws.sns().publish().topic_arn(topic).subject(self.subject).message(self.text);
        let call = call.message_attributes("page", attribute(if self.page { "true" } else { "false" })?);
        let call = match self.outcome {
            Some(outcome) => call.message_attributes("outcome", attribute(outcome.as_str())?),
            None => call,
        };
        call.send().await.map(|_| ()).map_err(Failure::from_sdk("tell people about", about))
    }
}
