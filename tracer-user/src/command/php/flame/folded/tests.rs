use super::*;
use crate::command::php::flame::file::tests::drawn;

fn call(class: Option<&str>, function: Option<&str>, file: Option<&str>, at: u32) -> Frame {
    Frame {
        class: class.map(Into::into),
        function: function.map(Into::into),
        file: file.map(Into::into),
        line: file.map(|_| at),
    }
}

/// A worker in `GET /orders`, where `stack` (innermost first) runs.
fn busy(stack: Vec<Frame>) -> Look {
    let request = Request {
        method: Some("GET".into()),
        uri: Some("/orders?token=…".into()),
        script: Some("/srv/index.php".into()),
        ..Request::default()
    };
    let look = Look::new(7, 1);
    Look { activity: Activity::Request, request: Some(request), stack, ..look }
}

/// What a reader of the folded format makes of a line: frames and count.
fn parse(line: &str) -> (Vec<&str>, u64) {
    let (stack, count) = line.rsplit_once(' ').unwrap();
    (stack.split(';').collect(), count.parse().unwrap())
}

#[test]
fn a_stack_stands_from_the_request_to_the_innermost_call() {
    let look = busy(vec![
        call(None, Some("str_repeat"), None, 0),
        call(Some("App\\Import"), Some("load"), Some("/srv/Import.php"), 214),
        call(None, None, Some("/srv/index.php"), 3),
    ]);
    let place = Place::of(&look);
    assert!(place.is_code);
    assert_eq!(
        place.stack,
        "GET /orders?token=…;/srv/index.php:3;App\\Import::load  /srv/Import.php:214;str_repeat"
    );
}

#[test]
fn a_command_line_process_is_named_by_its_script() {
    let script = Some("/srv/artisan".into());
    let request = Some(Request { script, ..Request::default() });
    let look = Look { request, ..busy(vec![call(None, None, Some("/srv/artisan"), 9)]) };
    assert_eq!(Place::of(&look).stack, "/srv/artisan;/srv/artisan:9");
}

#[test]
fn a_stack_that_is_not_whole_says_so() {
    let frame = call(None, Some("f"), Some("/f.php"), 1);
    let mut look = Look { stack_cut: true, ..busy(vec![frame]) };
    look.miss(Part::Stack, Reason::Torn);
    let place = Place::of(&look);
    assert!(place.is_code);
    assert_eq!(
        place.stack,
        "GET /orders?token=…;(further frames);f  /f.php:1;(calls that came and went)"
    );
    assert_eq!(Place::of(&busy(Vec::new())).stack, "GET /orders?token=…;(no function runs)");
}

#[test]
fn growth_without_a_stack_has_a_root_of_its_own() {
    let mut look = busy(Vec::new());
    look.miss(Part::Stack, Reason::SwappedOut);
    let with_request =
        Place { stack: "(not read: swapped out);GET /orders?token=…".to_owned(), is_code: false };
    assert_eq!(Place::of(&look), with_request);
    look.request = None;
    assert_eq!(Place::of(&look).stack, "(not read: swapped out)");
    for (activity, stack) in
        [(Activity::Idle, "(between requests)"), (Activity::Finishing, "(finishing a request)")]
    {
        let look = Look { activity, ..Look::new(7, 1) };
        assert_eq!(Place::of(&look), Place { stack: stack.to_owned(), is_code: false });
    }
    let mut look = Look::new(7, 1);
    look.miss(Part::All, Reason::Implausible { version: "8;2\n".into() });
    assert_eq!(
        Place::of(&look).stack,
        "(not read: not as PHP 8:2\\n keeps it: damaged, or another build)"
    );
}

#[test]
fn a_sample_stands_as_a_look_does() {
    let stack = vec![
        call(None, Some("str_repeat"), None, 0),
        call(Some("App\\Import"), Some("load"), Some("/srv/Import.php"), 214),
    ];
    for cut in [false, true] {
        let look = Look { stack_cut: cut, ..busy(stack.clone()) };
        assert_eq!(Place::sampled(look.request.as_ref(), &stack, cut), Place::of(&look));
    }
    let look = busy(Vec::new());
    assert_eq!(Place::sampled(look.request.as_ref(), &[], false), Place::of(&look));
    let unknown = Place::sampled(None, &stack[..1], false);
    assert_eq!(unknown.stack, "(request not read);str_repeat");
    assert!(unknown.is_code);
    let unnamed = Place::unnamed(look.request.as_ref());
    assert_eq!(unnamed.stack, "(not read: names of its functions);GET /orders?token=…");
    assert!(!unnamed.is_code && !Place::unsampled().is_code);
}

#[test]
fn figures_that_are_missing_do_not_matter() {
    let mut look = busy(vec![call(None, Some("f"), None, 0)]);
    look.miss(Part::Memory, Reason::OtherAllocator);
    assert!(Place::of(&look).is_code);
}

/// Names that could be taken for something else, by a reader, a terminal or a browser.
fn hostile() -> Vec<String> {
    let long = "é;\n".repeat(1400);
    [
        "a;b 12",
        "12",
        "f 12",
        "f 1 2.5",
        "f .",
        "# comment",
        "#",
        "",
        " ",
        "\n",
        "a\nb 7\r\nc",
        "\u{1b}[2J\0\u{7f}\u{85}\u{2028}",
        "<script>alert(1)</script>",
        "]]><!--&amp;\"'",
        "\u{fffd}\u{fffe}\u{ffff}\u{202e}",
        "f_[k]",
        "--",
        &long,
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn hostile_names_leave_the_format_whole() {
    let names = hostile();
    for first in &names {
        for last in &names {
            let mut look = busy(vec![
                call(None, Some(last), None, 0),
                call(Some(first), Some(last), Some(last), 5),
            ]);
            let request = Request {
                method: Some((&**first).into()),
                uri: Some((&**last).into()),
                ..Request::default()
            };
            look.request = Some(request);
            let mut growth = Growth::default();
            growth.add(Place::of(&look), 4096);
            let lines = growth.lines();
            let line = lines[0].as_str();
            let (frames, count) = parse(line);
            assert_eq!((frames.len(), count), (3, 4096), "{line}");
            assert!(frames.iter().all(|frame| !frame.trim().is_empty()), "{line}");
            assert!(!line.starts_with('#') && line.trim() == line, "{line}");
            assert!(!line.chars().any(char::is_control) && line.len() < 2048, "{line}");
            // A second number would make it a differential graph.
            let innermost = frames[2].rsplit(' ').next().unwrap();
            assert!(frames[2] == innermost || innermost.parse::<f64>().is_err(), "{line}");
        }
    }
}

#[test]
fn hostile_names_are_text_in_the_drawing() {
    let mut growth = Growth::default();
    for (at, name) in hostile().iter().enumerate() {
        let look = busy(vec![
            call(None, Some(name), None, 0),
            call(Some(name), Some(name), Some(name), 5),
        ]);
        growth.add(Place::of(&look), 4096 + at as u64);
    }
    let svg = drawn(&growth.lines());
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&svg, options).unwrap();
    let elements = |name| document.descendants().filter(move |node| node.has_tag_name(name));
    assert_eq!(elements("script").count(), 1);
    let title = |text: &str| elements("title").any(|node| node.text().unwrap().contains(text));
    assert!(title("<script>alert(1)</script> (4,"));
    assert!(title("]]><!--&amp:\"'"));
    let handlers = document.descendants().flat_map(|node| node.attributes());
    assert_eq!(handlers.filter(|attribute| attribute.name().starts_with("on")).count(), 1);
}

#[test]
fn long_names_keep_the_start_of_a_function_and_the_end_of_a_file() {
    let long = "x".repeat(4000);
    let name = format!("Start{long}");
    let file = format!("/{long}/end.php");
    let look = busy(vec![call(None, Some(&name), Some(&file), 12)]);
    let place = Place::of(&look);
    let frame = place.stack.split(';').next_back().unwrap();
    assert!(frame.starts_with("Startxxx") && frame.ends_with("xxx/end.php:12"), "{frame}");
    assert!(frame.len() <= NAME_BYTES + FILE_BYTES + 5, "{}", frame.len());
}

#[test]
fn the_largest_come_first_and_add_up() {
    let place = |stack: &str, is_code| Place { stack: stack.to_owned(), is_code };
    let mut growth = Growth::default();
    growth.add(place("a;b", true), 10);
    growth.add(place("(between requests)", false), 15);
    growth.add(place("a;b", true), 10);
    growth.add(place("a;c", true), 0);
    assert_eq!(growth.lines(), ["a;b 20", "(between requests) 15"]);
    assert_eq!((growth.bytes, growth.code_bytes, growth.code_stacks()), (35, 20, 1));
}

#[test]
fn more_stacks_than_are_kept_are_summed() {
    let mut growth = Growth::default();
    for number in 0..STACKS + 50 {
        let stack = format!("GET /orders/{number};f");
        growth.add(Place { stack, is_code: true }, 2);
    }
    assert_eq!((growth.other_bytes, growth.code_stacks()), (100, STACKS));
    let lines = growth.lines();
    assert_eq!((lines.len(), lines[0].as_str()), (STACKS + 1, "(other stacks) 100"));
    let sum: u64 = lines.iter().map(|line| parse(line).1).sum();
    assert_eq!(sum, growth.bytes);
    // One that is known goes on.
    growth.add(Place { stack: "GET /orders/3;f".to_owned(), is_code: true }, 500);
    assert_eq!(growth.lines()[0], "GET /orders/3;f 502");
}

#[test]
fn the_text_of_stacks_is_bounded() {
    let mut growth = Growth::default();
    let long = "x".repeat(1 << 20);
    for number in 0..40 {
        growth.add(Place { stack: format!("{number}{long}"), is_code: true }, 1);
    }
    assert!(growth.code_stacks() < 32 && growth.other_bytes > 8);
}
