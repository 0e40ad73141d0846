//! One framework: fits the matrices that it is asked to, one after the other. A fit is a child process that this actor
//! alone answers for: when the actor's unit is taken down, whatever the cause, the child is killed with all that it
//! started. Must never let a fit's failure end it: that is an answer.

use std::rc::Rc;

use actix::prelude::*;

use crate::core::comparison::Outcome;
use crate::messages::fit::{Describe, Described, Fit};
use crate::ports::frameworks::{FitFramework, OpenFramework};
use crate::runtime::ExitGuard;

pub struct Fitter {
    framework: Rc<dyn FitFramework>,
    guard: ExitGuard,
}

impl Fitter {
    /// On the actor's own thread.
    pub fn new(open: &OpenFramework, guard: ExitGuard) -> Self {
        Self { framework: Rc::from(open()), guard }
    }
}

impl Actor for Fitter {
    type Context = Context<Self>;

    fn stopped(&mut self, _: &mut Self::Context) {
        // Nobody asks any more: the comparer has ended, or was taken down with this one.
        self.guard.finish();
    }
}

impl Handler<Describe> for Fitter {
    type Result = ResponseFuture<Described>;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> Self::Result {
        let framework = Rc::clone(&self.framework);
        Box::pin(async move {
            Described {
                framework: framework.framework(),
                facts: framework.facts().await,
                parallel: framework.is_parallel(),
            }
        })
    }
}

impl Handler<Fit> for Fitter {
    type Result = AtomicResponse<Self, Option<Outcome>>;

    /// Others wait until this one is done: two at once would measure each other.
    fn handle(&mut self, Fit(job): Fit, _: &mut Self::Context) -> Self::Result {
        let framework = Rc::clone(&self.framework);
        let (stop, draining) = (self.guard.cancelled().child_token(), self.guard.draining().clone());
        self.guard.report_state(format!("fits {} times the matrix", job.size));
        let fitting = async move {
            let fit = framework.fit(&job, &stop);
            tokio::pin!(fit);
            let outcome = tokio::select! {
                outcome = &mut fit => outcome,
                () = draining.cancelled() => {
                    stop.cancel();
                    fit.await
                }
            };
            (!stop.is_cancelled()).then_some(outcome)
        };
        AtomicResponse::new(Box::pin(fitting.into_actor(self).map(|outcome, actor, _| {
            actor.guard.report_state("waits");
            outcome
        })))
    }
}
