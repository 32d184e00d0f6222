//! The chain of one request, from the command to the mail.

use kontor_tests::eventually;

use super::*;

const TRAIL: &str = "query($of: AuditTrailOf!, $first: Int! = 100, $after: Position, $at: Position) {
    auditTrail(of: $of, first: $first, after: $after, atLeast: $at) {
        steps { id causedBy stage what actor { name } subject at address request position state }
        end hasMore } }";

/// A step as a test tells it.
type Told<'a> = (&'a str, &'a str, &'a str, &'a str);

struct Trail(Vec<Value>);

impl Trail {
    /// Of all there is, in one query.
    async fn of(api: &ApiShop, admin: &Client, of: Value) -> Self {
        let head = kontor_eventstore::read::head(&api.pool).await.unwrap();
        let variables = json!({ "of": of, "at": head.to_string() });
        let mut trail = admin.read(TRAIL, variables).await["auditTrail"].take();
        assert_eq!(trail["hasMore"], false);
        Self(trail["steps"].as_array_mut().unwrap().drain(..).collect())
    }

    /// Stage, name, actor, and the name of the step it follows from.
    fn told(&self) -> Vec<Told<'_>> {
        self.0.iter().map(|step| self.tell(step)).collect()
    }

    fn tell<'a>(&'a self, step: &'a Value) -> Told<'a> {
        let cause = self.0.iter().find(|it| it["id"] == step["causedBy"]);
        let before = match cause {
            None => step["causedBy"].as_str().map_or("", |_| "elsewhere"),
            // Commands have no name; they are known by who gave them.
            Some(cause) => cause["what"].as_str().or(cause["stage"].as_str()).unwrap(),
        };
        (
            step["stage"].as_str().unwrap(),
            step["what"].as_str().unwrap_or_default(),
            step["actor"]["name"].as_str().unwrap(),
            before,
        )
    }

    fn find(&self, what: &str) -> &Value {
        self.0
            .iter()
            .find(|it| it["what"] == what)
            .unwrap_or_else(|| panic!("no {what} in {:?}", self.told()))
    }
}

/// An order of one lamp that is paid, and the request that placed it.
async fn paid_order(api: &ApiShop, shopper: &Client, token: &str) -> (String, String) {
    let lamp = api.product("LAMP").stock(5).await;
    let mut placing = shopper.placing(&[(&lamp, 1)]);
    placing["payment"] = json!({ "token": token });
    let answer = shopper.mutation("placeOrder", placing).answer().await;
    let request = request_of(&answer);
    let order = answer.data()["placeOrder"]["id"].as_str().unwrap().to_owned();
    (order, request)
}

async fn until_all_is_sent(api: &ApiShop) {
    api.nothing_waits().await;
    eventually("all mails are sent", async || {
        let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM notifications WHERE state = 'WAITING'")
            .fetch_one(&api.pool)
            .await
            .unwrap();
        (waiting == 0).then_some(())
    })
    .await;
}

const PROCESS: &str = "system:order_process";
const CASHIER: &str = "system:cashier";
const NOTIFIER: &str = "system:notifications";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_leads_to_stock_money_and_mail() {
    let api = behind_a_proxy().await;
    let (admin, staff) = (api.admin().await, api.staff().await);
    let shopper = api.shopper().await.with_header("x-forwarded-for", "203.0.113.7");
    let (order, request) = paid_order(&api, &shopper, "tok_approved").await;
    api.until_status(order.parse().unwrap(), "CONFIRMED").await;
    until_all_is_sent(&api).await;

    let trail = Trail::of(&api, &admin, json!({ "request": request })).await;
    let customer = shopper.id();
    let placing = [
        ("COMMAND", "", &*customer, ""),
        ("EVENT", "Placed", &customer, "COMMAND"),
        ("PROCESS", "", PROCESS, "Placed"),
        ("EVENT", "StockReserved", PROCESS, "PROCESS"),
        ("PROCESS", "", PROCESS, "Placed"),
        ("EVENT", "Reserved", PROCESS, "PROCESS"),
        ("PAYMENT", "", CASHIER, "Reserved"),
        ("EVENT", "PaymentAuthorised", CASHIER, "PAYMENT"),
        ("EVENT", "Confirmed", CASHIER, "PAYMENT"),
        ("MESSAGE", "ORDER_CONFIRMED", NOTIFIER, "Confirmed"),
    ];
    assert_eq!(trail.told(), placing);
    for step in &trail.0 {
        let own = step["actor"]["name"] == customer;
        let (address, of) = if own {
            (json!("203.0.113.7"), json!(request))
        } else {
            (Value::Null, Value::Null)
        };
        assert_eq!([&step["address"], &step["request"]], [&address, &of], "{step}");
    }
    let mail = trail.find("ORDER_CONFIRMED");
    assert_eq!(
        (&mail["state"], &mail["subject"]),
        (&json!("SENT"), &json!(customer))
    );
    assert!(mail["at"].is_string());

    let tracking = json!({ "orderId": order, "trackingNumber": "TRACK-1" });
    let shipped = staff.mutation("shipOrder", tracking).answer().await;
    let shipping = request_of(&shipped);
    until_all_is_sent(&api).await;
    let trail = Trail::of(&api, &admin, json!({ "request": shipping })).await;
    let mut told = trail.told();
    // Shelf and bank are told side by side.
    told[3..].sort_unstable();
    let worker = staff.id();
    let expected = [
        ("COMMAND", "", &*worker, ""),
        ("EVENT", "Shipped", &worker, "COMMAND"),
        ("MESSAGE", "ORDER_SHIPPED", NOTIFIER, "Shipped"),
        ("EVENT", "PaymentCaptured", CASHIER, "PAYMENT"),
        ("EVENT", "ReservationCommitted", PROCESS, "PROCESS"),
        ("PAYMENT", "", CASHIER, "Shipped"),
        ("PROCESS", "", PROCESS, "Shipped"),
    ];
    assert_eq!(told, expected);
    assert_eq!(trail.find("Shipped")["address"], "127.0.0.1");

    // Of the order it is both, one after the other; and so it is in parts.
    let both = Trail::of(&api, &admin, json!({ "order": order })).await;
    assert_eq!(both.told()[..placing.len()], placing);
    assert_eq!(both.0[placing.len()..], trail.0);
    let (mut parts, mut after) = (Vec::new(), Value::Null);
    loop {
        let variables = json!({ "of": { "order": order }, "first": 1, "after": after });
        let mut part = admin.read(TRAIL, variables).await["auditTrail"].take();
        parts.append(part["steps"].as_array_mut().unwrap());
        if part["hasMore"] == false {
            break;
        }
        after = part["end"].take();
    }
    // Cut between two events of one command, it is named twice.
    parts.dedup_by(|one, other| one["id"] == other["id"]);
    let events = |steps: &[Value]| -> Vec<Value> {
        let events = steps.iter().filter(|it| it["position"].is_string());
        events.cloned().collect()
    };
    assert_eq!(events(&parts), events(&both.0));
    api.finish().await;
}

/// What the bank tells of its own accord is what the customer set off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_bank_tells_later_is_part_of_the_request() {
    let api = ApiShop::start().await;
    let (admin, shopper) = (api.admin().await, api.shopper().await);
    let (order, request) = paid_order(&api, &shopper, "tok_needs_action").await;
    let url = eventually("it waits for the customer", async || {
        let seen = shopper
            .order(&order, "payment { nextAction { url } } pending { step }")
            .await;
        let url = seen["payment"]["nextAction"]["url"].as_str().map(str::to_owned);
        url.filter(|_| seen["pending"]["step"] == "CUSTOMER_ACTION")
    })
    .await;
    let reference = url.rsplit('/').next().unwrap();
    let page = format!("http://{}/simulator/actions/{reference}", api.address());
    let yes = reqwest::Client::new().post(page).form(&[("approve", "true")]);
    assert!(yes.send().await.unwrap().status().is_success());
    api.until_status(order.parse().unwrap(), "CONFIRMED").await;
    until_all_is_sent(&api).await;
    let trail = Trail::of(&api, &admin, json!({ "request": request })).await;
    let customer = shopper.id();
    assert_eq!(
        trail.told()[..2],
        [
            ("COMMAND", "", &*customer, ""),
            ("EVENT", "Placed", &*customer, "COMMAND")
        ]
    );
    let told = trail.told();
    let bank = told.iter().position(|it| it.1 == "PaymentAuthorised").unwrap();
    assert_eq!(
        told[bank - 1..],
        [
            ("PAYMENT", "", "system:payment_webhooks", "PaymentActionRequired"),
            ("EVENT", "PaymentAuthorised", "system:payment_webhooks", "PAYMENT"),
            ("EVENT", "Confirmed", "system:payment_webhooks", "PAYMENT"),
            ("MESSAGE", "ORDER_CONFIRMED", NOTIFIER, "Confirmed"),
        ]
    );
    api.finish().await;
}

/// A name that two clients give their requests brings them into one trail, and mixes nothing up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_one_name_are_told_apart_by_who_asked() {
    let api = ApiShop::start().await;
    let admin = api.admin().await;
    let lamp = api.product("LAMP").stock(5).await;
    let (one, other) = (api.shopper().await, api.shopper().await);
    let mut orders = Vec::new();
    for shopper in [&one, &other] {
        let named = shopper.clone().with_header("x-request-id", "checkout");
        orders.push(named.place(&[(&lamp, 1)]).await.id);
    }
    api.caught_up().await;
    let trail = Trail::of(&api, &admin, json!({ "request": "checkout" })).await;
    let roots: Vec<&Value> = trail.0.iter().filter(|step| step["causedBy"].is_null()).collect();
    let actors: Vec<&str> = roots
        .iter()
        .map(|it| it["actor"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(actors, [one.id(), other.id()]);
    // The trail of the order has nothing of the other.
    let own = Trail::of(&api, &admin, json!({ "order": orders[1] })).await;
    assert!(own.0.iter().all(|step| step["actor"]["name"] != one.id()));
    assert!(own.0.iter().all(|step| step["subject"] != orders[0]));
    assert_eq!(own.find("Placed")["actor"]["name"], other.id());
    api.finish().await;
}
