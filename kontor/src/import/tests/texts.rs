//! Texts and amounts, in and out.

use kontor_domain::PersonName;

use super::super::countries;
use super::super::plan::clean;
use super::*;

#[test]
fn another_file_is_refused_whole() {
    let error = lines("Invoice,StockCode\n1,2\n".as_bytes()).unwrap_err();
    assert!(error.to_string().contains("InvoiceNo,StockCode"), "{error}");
}

#[test]
fn a_latin_1_file_is_read_as_well() {
    let header = SAMPLE.lines().next().unwrap();
    let mut file = format!("{header}\n536365,gift_0001_10,Gift Voucher ").into_bytes();
    file.extend(b"\xa310.00,1,2010-12-01 08:26:00,8.33,,United Kingdom\n");
    let entries = lines(file.as_slice()).unwrap();
    assert_eq!(&*entries[0].line().unwrap().description, "Gift Voucher £10.00");
}

#[test]
fn amounts_are_read_exactly_or_not_at_all() {
    for (text, thousandths) in [
        ("2.55", 2_550),
        ("-11062.06", -11_062_060),
        ("0.001", 1),
        ("18", 18_000),
        ("18.0", 18_000),
        ("-0.5", -500),
    ] {
        assert_eq!(Thousandths::parse(text), Some(Thousandths(thousandths)), "{text}");
    }
    for text in [
        "",
        "-",
        ".5",
        "5.",
        "1.2345",
        "1e3",
        "+1",
        "1,5",
        "--1",
        " 1",
        "1234567890123",
        "NaN",
    ] {
        assert_eq!(Thousandths::parse(text), None, "{text}");
    }
}

#[test]
fn amounts_are_written_in_pounds() {
    for (thousandths, text) in [
        (0, "0.00"),
        (9_747_747_934, "9,747,747.934"),
        (-11_062_060, "-11,062.06"),
        (1, "0.001"),
        (999_990, "999.99"),
    ] {
        assert_eq!(Thousandths(thousandths).to_string(), text);
    }
    assert_eq!(format!("{:>8}|", Thousandths(1_000)), "    1.00|");
}

#[test]
fn every_country_makes_an_address() {
    let recipient = || PersonName::new("Customer 1").unwrap();
    for (name, code) in [
        ("EIRE", "IE"),
        ("RSA", "ZA"),
        ("Unspecified", "ZZ"),
        ("European Community", "EU"),
        ("", "ZZ"),
        ("Atl\nantis", "ZZ"),
    ] {
        let address = countries::address(recipient(), name).unwrap();
        assert_eq!(address.country.as_str(), code, "{name}");
    }
    assert_eq!(
        countries::address(recipient(), "Atl\nantis")
            .unwrap()
            .city
            .as_str(),
        "Atl antis"
    );
}

#[test]
fn a_cleaned_text_has_one_line_and_its_length() {
    assert_eq!(clean("  a\tb\u{2028}c ", 200), "a b c");
    assert_eq!(clean("£££ £", 4), "£££");
}
