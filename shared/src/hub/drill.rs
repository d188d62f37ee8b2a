//! Drills: a finding that stands in the drills' table is answered as a detector's is, once, if it is about a canary.

use std::time::Instant;

use futures_util::future::join_all;
use jiff::Timestamp;

use super::tell::AN_HOUR;
use super::{Answer, Answered, Hub};
use crate::drill::Drill;
use crate::failure::{Class, Failure};
use crate::ledger::Told;
use crate::message::Message;
use crate::run::Outcome;
use crate::telemetry;
use crate::text::quoted;

impl Hub {
    /// Answers a drill by its id alone.
    pub(super) async fn carry_drill(&self, id: &str, now: Timestamp, deadline: Instant) -> Result<Answer, Failure> {
        let Some(drills) = &self.drills else {
            return Ok(self.no_drill("this deployment has no drills' table".to_owned()).await);
        };
        let Some(drill) = drills.read(id).await? else {
            return Ok(self.no_drill(format!("there is no drill {}", quoted(id))).await);
        };
        let finding = match drill.finding(&self.aws.region) {
            Ok(finding) => finding,
            Err(error) => return Ok(self.no_drill(format!("drill {}: {error}", drill.id)).await),
        };
        // Every function gets the event; those whose playbooks they are answer.
        let answers = self.answers(&finding);
        if answers.is_empty() {
            return Ok(Answer::default());
        }
        if let Some(why) = self.no_canary(&drill) {
            let mut answer = Answer::default();
            for (playbook, target) in answers {
                let report = self.refuse_forged(playbook, &target, &finding, why.clone()).await;
                if report.untold {
                    return Err(Failure::new(Class::Transient, "tell people about drill", drill.id));
                }
                answer.outcomes.push(Answered::from(&report));
            }
            return Ok(answer);
        }
        if drill.valid_until <= now {
            return Ok(self.no_drill(format!("drill {} is no longer good", drill.id)).await);
        }
        if !self.ledger.use_drill(drills, &drill, self.function, now).await? {
            // Lambda delivers an event again; whoever sends it again brings nothing about.
            telemetry::turned_away("drill-used");
            let why = format!("drill {} was used before", drill.id);
            return Ok(Answer { outcomes: vec![Answered::unanswered(Outcome::NoChange, why)] });
        }
        let runs = answers.iter().map(|(playbook, target)| self.answer(*playbook, target, &finding, now, deadline));
        let mut answer = Answer::default();
        for report in join_all(runs).await {
            answer.outcomes.push(Answered::from(&report?));
        }
        Ok(answer)
    }

    /// Why a drill is about nothing that may be rehearsed on; `None` when it may.
    fn no_canary(&self, drill: &Drill) -> Option<String> {
        let known = self.config.canaries.contains(&drill.canary);
        (!known).then(|| format!("drill {} is about {}, which is no canary of this deployment", drill.id, drill.canary))
    }

    /// A drill that is not held. Nobody of ours sends such a one, so people are told.
    async fn no_drill(&self, why: String) -> Answer {
        telemetry::alarm("drill-refused", &why);
        // Whoever may put events on the bus can send such a one without end.
        let once = Told { about: "drill".to_owned(), what: self.function.to_owned(), remembered: AN_HOUR };
        if self.ledger.was_told(&once, Timestamp::now()).await.unwrap_or(false) {
            return Answer { outcomes: vec![Answered::unanswered(Outcome::Refused, why)] };
        }
        let subject = "Firebreak: DRILL REFUSED".to_owned();
        let text = format!(
            "DRILL REFUSED: nothing was done\nWhy: {}\nDo: find out who sent it: an event of source firebreak.drill",
            crate::text::plain(&why, 300)
        );
        let message = Message { subject, text, outcome: None, page: true };
        match self.publish(message, "a drill").await {
            Ok(()) => self.note_news(Some(once)).await,
            Err(failure) => telemetry::alarm("report-undelivered", &failure.brief()),
        }
        Answer { outcomes: vec![Answered::unanswered(Outcome::Refused, why)] }
    }
}
