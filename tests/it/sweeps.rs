//! A deadline, a discard, a disconnect at every byte of an answer: the next query on the connection
//! gets its own answer, or the connection is broken. Never a wrong row.
//!
//! The exhaustive part needs no socket: recorded sessions (tests/transcripts) are replayed up to
//! their last exchange, whose answer is interrupted at each of its bytes in turn.

mod cut;
mod sockets;

use chopin_pg::{Delivery, PgError};

use self::cut::{Cut, Exchange, Fault, Heard, Next, Plan, Victims, is_terminal};
use crate::replay::{BROKEN, Recorded, Session};

/// The sessions whose last exchange is swept.
const SESSIONS: &[&str] = &[
    "driver_batch_unique_violation",
    "driver_cached",
    "driver_copy_in_refused",
    "driver_copy_out_refused",
    "driver_errors",
    "driver_messages",
    "driver_parameters",
    "driver_pipeline",
    "driver_pipeline_error_at_sync",
    "driver_pipeline_error_in_the_middle",
    "driver_prepared",
    "driver_several_syncs",
    "driver_simple",
    "driver_stale",
    "driver_text_output",
    "driver_transaction",
];

/// What is said of a request whose deadline has come.
const TIMED_OUT: &str = "timed out after 1 s while waiting for the ";

/// Interrupts the last exchange of each session at every byte.
fn sweep(fault: Fault) {
    for name in SESSIONS {
        let (session, recorded) = (Session::named(name), Recorded::load(name));
        let exchange = Exchange::last(session, &recorded);
        for delivery in [Delivery::Events, Delivery::Collect] {
            for next in [Next::Before, Next::After] {
                if (fault, next) == (Fault::Silence, Next::Before) {
                    // Nothing is told apart by it: with the connection everything ends.
                    continue;
                }
                let victims = Victims::All;
                let plan = Plan { delivery, fault: Fault::None, victims, next, at: 0 };
                let whole = Cut::run(session, &recorded, &exchange, plan);
                assert!(whole.length > 0 && whole.ended.len() == exchange.requests.len());
                sweep_exchange(name, &recorded, &exchange, &whole, Plan { fault, ..plan });
            }
        }
    }
}

fn sweep_exchange(name: &str, recorded: &Recorded, exchange: &Exchange, whole: &Heard, plan: Plan) {
    let is_for_all = matches!(plan.fault, Fault::HangUp | Fault::Silence);
    let is_simple = is_for_all || plan.next == Next::Before || exchange.requests.len() == 1;
    let victims: &[Victims] = match is_simple {
        true => &[Victims::All],
        false => &[Victims::All, Victims::First, Victims::Last],
    };
    for &victims in victims {
        for at in 0..=whole.length {
            let plan = Plan { at, victims, ..plan };
            let heard = Cut::run(Session::named(name), recorded, exchange, plan);
            let is_copy = name == "driver_copy_in_refused";
            if let Err(what) = check(&heard, whole, exchange, plan, is_copy) {
                panic!(
                    "{name}, {plan:?}: {what}\n--- uninterrupted:\n{}--- interrupted:\n{}",
                    whole.log.text(),
                    heard.log.text()
                );
            }
        }
    }
}

/// Compares what was heard with what is heard without an interruption.
fn check(
    heard: &Heard,
    whole: &Heard,
    exchange: &Exchange,
    plan: Plan,
    is_copy: bool,
) -> Result<(), String> {
    let is_unfinished = heard.ended.len() < exchange.requests.len();
    let is_broken = match plan.fault {
        // Where COPY data are awaited nothing may stand behind: then there is no way out.
        _ if is_copy => heard.is_broken,
        Fault::None | Fault::Timeout | Fault::Discard => false,
        Fault::Silence => is_unfinished,
        Fault::HangUp => true,
    };
    if heard.is_broken != is_broken {
        return Err(format!("broken: {}", heard.is_broken));
    }
    for request in exchange.requests.clone() {
        let is_hit = plan.fault == Fault::HangUp || exchange.is_victim(request, plan.victims);
        let is_cut = !heard.ended.contains(&request) && (is_hit || heard.is_broken);
        check_request(heard, whole, request, is_cut.then_some((plan.fault, is_hit)))?;
    }
    check_next(heard, plan)?;
    check_messages(heard, whole)
}

/// A request has what is its own, or the beginning of it if it was cut by a fault; and one end,
/// unless nobody wants it any more.
fn check_request(
    heard: &Heard,
    whole: &Heard,
    request: usize,
    cut_by: Option<(Fault, bool)>,
) -> Result<(), String> {
    let expected: Vec<_> = whole.log.about(request).collect();
    let lines: Vec<_> = heard.log.about(request).collect();
    let Some((fault, is_hit)) = cut_by else {
        let is_right = lines == expected;
        return match is_right {
            true => Ok(()),
            false => Err(format!("request {request} is not as if nothing had happened")),
        };
    };
    let got: Vec<_> = before_end(&lines).collect();
    if !before_end(&expected).collect::<Vec<_>>().starts_with(&got) {
        return Err(format!("request {request} has got what is not its own"));
    }
    let ends: Vec<_> = lines.iter().filter(|line| is_terminal(line)).collect();
    let is_right = match (fault, ends.as_slice()) {
        (Fault::Discard, ends) if is_hit => ends.is_empty(),
        (Fault::Timeout | Fault::Silence, [end]) if is_hit => {
            end.starts_with(&format!("failed: {TIMED_OUT}"))
        }
        (_, [end]) => end.starts_with("failed: "),
        (_, _) => false,
    };
    if is_right { Ok(()) } else { Err(format!("request {request} has these ends: {ends:?}")) }
}

/// The lines before the end of a request, without the result that is taken behind it.
fn before_end<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    lines.iter().take_while(|line| !is_terminal(line)).copied()
}

/// The next query has its answer, all of it and nothing else; or it failed, with the connection.
fn check_next(heard: &Heard, plan: Plan) -> Result<(), String> {
    let number = match &heard.next {
        Ok(number) => *number,
        Err(PgError::NotSent(_)) if heard.is_broken => return Ok(()),
        Err(error) => return Err(format!("the next query was refused: {error}")),
    };
    let lines: Vec<_> = heard.log.about(number).collect();
    let answer: &[&str] = match plan.delivery {
        Delivery::Events => {
            &["columns (answer int4 Binary)", "row 42", "command SELECT 1", "complete"]
        }
        _ => &["complete", "result (answer int4 Binary)", "row 42", "result SELECT 1"],
    };
    let failed = |line: &&str| line.starts_with("failed: ");
    let is_right = match heard.is_broken {
        true => {
            lines.iter().filter(|line| failed(line)).count() == 1 && before_end(&lines).count() == 0
        }
        false => lines == answer,
    };
    if is_right { Ok(()) } else { Err(format!("the next query got {lines:?}")) }
}

/// Messages that are nobody's answer are told whatever happens to the requests.
fn check_messages(heard: &Heard, whole: &Heard) -> Result<(), String> {
    let messages = |heard: &Heard| -> Vec<String> {
        let lines = heard.log.lines.iter().filter(|line| line.request.is_none());
        lines.map(|line| line.text.clone()).filter(|line| !line.starts_with(BROKEN)).collect()
    };
    let (told, expected) = (messages(heard), messages(whole));
    let is_right = if heard.is_broken { expected.starts_with(&told) } else { told == expected };
    if is_right { Ok(()) } else { Err(format!("these messages were told: {told:?}")) }
}

#[test]
fn h1_h20_a_deadline_at_every_byte_of_an_answer() {
    sweep(Fault::Timeout);
}

#[test]
fn h1_a_late_answer_that_never_comes_to_its_end_breaks_at_every_byte() {
    sweep(Fault::Silence);
}

#[test]
fn h1_a_discard_at_every_byte_of_an_answer() {
    sweep(Fault::Discard);
}

#[test]
fn h25_a_disconnect_at_every_byte_of_an_answer() {
    sweep(Fault::HangUp);
}
