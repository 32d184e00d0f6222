//! Whatever is commanded and heard in whatever order, the money adds up.

use proptest::prelude::*;

use super::payment::{method, observe, placed_paid, reference, state};
use super::*;
use crate::examples::assert_snapshot_round_trips;
use crate::payment::{DeclineReason, PaymentState, PaymentStatus};

/// A gateway that does what it is asked.
#[derive(Default)]
struct Bank {
    held: i64,
    taken: i64,
    back: i64,
    voided: bool,
    asked: bool,
}

impl Bank {
    fn state(&self) -> PaymentState {
        let status = match self {
            Self { voided: true, .. } => PaymentStatus::Voided,
            Self { taken: 0, .. } => PaymentStatus::Authorised,
            _ => PaymentStatus::Captured,
        };
        state(status, self.held, self.taken, self.back)
    }

    /// Does it, and says what the shop is told.
    fn does(&mut self, due: PaymentDue) -> OrderCommand {
        match due {
            PaymentDue::Authorise { amount, method: by } => {
                assert_eq!(by, method());
                (self.held, self.asked) = (amount.amount_minor(), true);
            }
            PaymentDue::Capture { amount, .. } => self.taken = amount.amount_minor(),
            PaymentDue::Refund { amount, .. } => self.back += amount.amount_minor(),
            PaymentDue::Void { reference: None } if !self.asked => return OrderCommand::NothingToVoid,
            PaymentDue::Void { .. } => self.voided = true,
        }
        observe(self.state())
    }
}

fn heard() -> impl Strategy<Value = OrderCommand> {
    let status = prop_oneof![
        Just(PaymentStatus::Processing),
        Just(PaymentStatus::RequiresAction),
        Just(PaymentStatus::Authorised),
        Just(PaymentStatus::Captured),
        Just(PaymentStatus::Voided),
        Just(PaymentStatus::Declined(DeclineReason::CardDeclined)),
    ];
    let amount = || prop_oneof![Just(0_i64), Just(1000), Just(3500), -1_i64..4000];
    (status, amount(), amount()).prop_map(|(status, held, taken)| observe(state(status, held, taken, 0)))
}

/// Everything but what the bank says.
fn command() -> impl Strategy<Value = OrderCommand> {
    prop_oneof![
        3 => Just(OrderCommand::MarkReserved),
        1 => Just(OrderCommand::Confirm),
        1 => Just(OrderCommand::Reject { refused: refused() }),
        1 => Just(OrderCommand::Expire),
        1 => Just(OrderCommand::GiveUp { reason: reason("stuck") }),
        1 => Just(cancel()),
        3 => Just(ship("T-1")),
        3 => Just(OrderCommand::Deliver),
        3 => (-10_i64..4000).prop_map(|refund| back(&[(0, 1)], gbp(refund))),
        3 => (-10_i64..4000).prop_map(|amount| OrderCommand::Refund { amount: gbp(amount), reason: reason("late") }),
        1 => Just(OrderCommand::NothingToVoid),
    ]
}

fn settle(capture: CaptureAt) -> impl Strategy<Value = OrderCommand> {
    "[a-c]".prop_map(move |why| OrderCommand::SettleByHand {
        capture,
        reason: reason(&why),
    })
}

fn capture_at() -> impl Strategy<Value = CaptureAt> {
    prop_oneof![Just(CaptureAt::Shipment), Just(CaptureAt::Confirmation)]
}

/// Decides and applies; refusals change nothing.
fn send(order: &mut Order, command: OrderCommand) -> Vec<OrderEvent> {
    let events = order.decide(command).unwrap_or_default();
    for event in &events {
        order.apply(event.clone());
    }
    events
}

fn ended(order: &Order) -> bool {
    matches!(
        order.status(),
        Some(OrderStatus::Rejected | OrderStatus::Cancelled)
    )
}

fn assert_adds_up(order: &Order) {
    let payment = order.payment().unwrap();
    let [held, taken, back] =
        [payment.authorised(), payment.captured(), payment.refunded()].map(Money::amount_minor);
    assert!(
        0 <= back && back <= taken && taken <= held && held <= 3500,
        "{order:?}"
    );
    let owed = order.owed().unwrap().amount_minor();
    assert!(owed <= 3500);
    assert!(
        back <= owed || ended(order) || payment.paid_by_hand(),
        "{order:?}"
    );
}

fn views(order: &Order) -> impl PartialEq + std::fmt::Debug + use<> {
    let payment = order.payment().unwrap().clone();
    (
        (
            order.status(),
            order.owed(),
            payment.status(),
            payment.reference().cloned(),
        ),
        (payment.authorised(), payment.captured(), payment.refunded()),
        payment.next_action().cloned(),
    )
}

proptest! {
    #[test]
    fn money_adds_up_whatever_is_heard(
        commands in prop::collection::vec(
            prop_oneof![command(), heard(), heard(), settle(CaptureAt::Shipment)], 0..40,
        ),
    ) {
        let mut events = vec![placed_paid()];
        let mut order: Order = after(&events);
        for command in commands {
            let from = order.status();
            let news = send(&mut order, command.clone());
            assert_adds_up(&order);
            let payment = order.payment().unwrap();
            if from == Some(OrderStatus::Pending) && order.status() == Some(OrderStatus::Confirmed) {
                prop_assert!(payment.authorised() == gbp(3500) || payment.paid_by_hand());
            }
            if !matches!(command, OrderCommand::Refund { .. } | OrderCommand::ReturnItems { .. }) {
                let again = order.decide(command.clone()).unwrap_or_default();
                prop_assert!(again.is_empty(), "{command:?} repeated: {again:?}");
            }
            events.extend(news);
        }
        prop_assert_eq!(&after::<Order>(&events), &order);
        assert_snapshot_round_trips(&order);
    }

    #[test]
    fn with_a_perfect_bank_nothing_stays_due_and_an_ended_order_costs_nothing(
        capture in capture_at(),
        steps in prop::collection::vec(
            prop_oneof![3 => command().prop_map(Some), 4 => Just(None)], 0..30,
        ),
        hand in prop::option::of(settle(CaptureAt::Shipment)),
    ) {
        let mut order: Order = after(&[placed_paid()]);
        let mut bank = Bank::default();
        let mut told = vec![];
        let by_hand = hand.is_some();
        for step in steps.into_iter().chain([hand]) {
            if let Some(command) = step {
                // Staff settle what they did on the bank's own page; a payment made elsewhere the bank does not know of.
                let by_staff = matches!(command, OrderCommand::SettleByHand { .. });
                let due = order.payment_due(CaptureAt::Shipment).filter(|_| by_staff);
                if let Some(due) = due.filter(|due| due.step() != PaymentStep::Authorise) {
                    bank.does(due);
                }
                send(&mut order, command);
            } else if let Some(due) = order.payment_due(capture) {
                let command = bank.does(due);
                told.push(command.clone());
                send(&mut order, command);
            }
            for old in &told {
                send(&mut order, old.clone());
            }
            assert_adds_up(&order);
        }
        let mut calls = 0;
        while let Some(due) = order.payment_due(capture) {
            let command = bank.does(due);
            prop_assert!(!send(&mut order, command).is_empty());
            calls += 1;
            prop_assert!(calls <= 4);
        }
        assert_adds_up(&order);
        let payment = order.payment().unwrap();
        if !by_hand {
            prop_assert_eq!(payment.captured(), gbp(bank.taken));
            prop_assert_eq!(payment.refunded(), gbp(bank.back));
        }
        if ended(&order) {
            prop_assert_eq!(payment.captured(), payment.refunded());
            prop_assert!(payment.status() != Some(PaymentStatus::Authorised));
            prop_assert!(by_hand || bank.held == 0 || bank.voided || bank.taken == bank.back);
        }
    }

    #[test]
    fn the_order_of_what_is_heard_does_not_matter(
        (history, heard) in history().prop_flat_map(|history| {
            let order = prop::collection::vec(0..history.len(), 0..20);
            let shuffled = Just(history.clone()).prop_shuffle();
            (Just(history), shuffled, order).prop_map(|(history, mut heard, repeats)| {
                heard.extend(repeats.into_iter().map(|index| history[index].clone()));
                (history, heard)
            })
        }),
        end in any::<bool>(),
    ) {
        let mut begun: Order = after(&[placed_paid(), OrderEvent::Reserved {}]);
        // Nobody but the shop lets money go, and it does so only for an order that has ended.
        if end || history.iter().any(|it| it.status == PaymentStatus::Voided) {
            begun.apply(cancelled());
        }
        let [in_order, shuffled] = [history, heard].map(|states| {
            let mut order = begun.clone();
            for state in states {
                prop_assert_eq!(&state.reference, &reference());
                order.decide(observe(state.clone())).map_err(|error| TestCaseError::fail(error.to_string()))?;
                send(&mut order, observe(state));
            }
            Ok(views(&order))
        });
        prop_assert_eq!(in_order?, shuffled?);
    }
}

/// What a bank says of one payment, in order.
fn history() -> impl Strategy<Value = Vec<PaymentState>> {
    let beginning = prop_oneof![
        Just(vec![PaymentStatus::Processing]),
        Just(vec![PaymentStatus::Processing, PaymentStatus::RequiresAction]),
        Just(vec![PaymentStatus::RequiresAction, PaymentStatus::Processing]),
    ];
    let decline = PaymentStatus::Declined(DeclineReason::CardDeclined);
    let end = prop_oneof![
        Just(vec![]),
        Just(vec![state(decline, 0, 0, 0)]),
        Just(vec![state(PaymentStatus::Authorised, 3500, 0, 0)]),
        Just(vec![
            state(PaymentStatus::Authorised, 3500, 0, 0),
            state(PaymentStatus::Voided, 3500, 0, 0),
        ]),
        (1_i64..1000, 1_i64..1000).prop_map(|(first, second)| vec![
            state(PaymentStatus::Authorised, 3500, 0, 0),
            state(PaymentStatus::Captured, 3500, 3500, 0),
            state(PaymentStatus::Captured, 3500, 3500, first),
            state(PaymentStatus::Captured, 3500, 3500, first + second),
        ]),
    ];
    (beginning, end).prop_map(|(beginning, end)| {
        let beginning = beginning.into_iter().map(|status| state(status, 0, 0, 0));
        beginning.chain(end).collect()
    })
}
