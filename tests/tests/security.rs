//! Kafka as real clusters have it: TLS with a CA of its own and client certificates, SASL SCRAM, and ACLs that grant exactly the
//! rights that `docs/log.md` names, or all of them but one.
#![allow(clippy::unwrap_used, reason = "a failure in a helper must fail the test")]

mod certificates;

use edgefold_tests::{Edgefold, Kafka, Outcome, Serve, java};

use crate::certificates::Certificates;

const ERROR: i32 = 2;

#[test]
fn tls_with_a_ca_of_its_own_and_client_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (right, wrong) = (Certificates::new("right"), Certificates::new("wrong"));
    let ca = right.ca_file(folder, "ca.pem");
    let start = |[certificate, key]: [String; 2]| {
        // Java reads the key and the certificate from one file.
        let keystore = key.replace(".key", ".pem");
        let both = [&key, &certificate].map(|file| std::fs::read_to_string(file).unwrap()).concat();
        std::fs::write(&keystore, both).unwrap();
        Kafka::start_with_secured(
            "SSL",
            &format!(
                "ssl.keystore.type=PEM\nssl.keystore.location={keystore}\nssl.truststore.type=PEM\nssl.truststore.location={ca}\n\
                 ssl.client.auth=required\n"
            ),
        )
    };
    let kafka = start(right.issue(folder, "broker"));
    let edgefold = Edgefold::over(&kafka.secured_log("tls"));
    let properties = |name: &str, ca: &str, client: Option<[String; 2]>| {
        let mut text = format!("security.protocol=SSL\nssl.ca.location={ca}\n");
        if let Some([certificate, key]) = client {
            text += &format!("ssl.certificate.location={certificate}\nssl.key.location={key}\n");
        }
        let file = edgefold.path(name);
        std::fs::write(&file, text).unwrap();
        file
    };
    let good = properties("good", &ca, Some(right.issue(folder, "client")));
    edgefold.run(&["init", "-F", &good]);
    edgefold.run(&["block", "10.0.0.1", "-F", &good]);
    let serve = edgefold.serve(&["-F", &good]);
    serve.wait_until_writer();
    serve.wait_for_view(1);
    assert_eq!(edgefold.run(&["list", "-o", "raw", "-F", &good]), "10.0.0.1\t10.0.0.1\t-\n");
    // Without a certificate, with one of another CA, and with a broker that another CA would have to vouch for.
    let other_ca = wrong.ca_file(folder, "other-ca.pem");
    for (name, file, words) in [
        ("none", properties("none", &ca, None), "alert bad certificate"),
        ("foreign", properties("foreign", &ca, Some(wrong.issue(folder, "stranger"))), "alert bad certificate"),
        ("ca", properties("ca", &other_ca, Some(right.issue(folder, "client2"))), "certificate verify failed"),
    ] {
        let Outcome { status, stderr, .. } = edgefold.outcome(&["block", "10.0.0.2", "-F", &file]);
        assert_eq!(status, ERROR, "{name}: {stderr}");
        assert!(
            stderr.to_lowercase().contains(words) && stderr.ends_with("; nothing was appended\n"),
            "{name}: {stderr}"
        );
    }
    // With one of the right CA, but for another host.
    let other = start(right.issue_for("broker.example", folder, "other-broker"));
    let edgefold = Edgefold::over(&other.secured_log("tls"));
    edgefold.outcome(&["list", "-F", &good]).assert_failed(ERROR, "certificate verify failed");
    let unverified = ["list", "-F", &good, "-X", "ssl.endpoint.identification.algorithm=none"];
    edgefold.outcome(&unverified).assert_failed(ERROR, "there is no log");
}

/// What a user may do, as in the table of `docs/log.md`: resource, operation.
const RIGHTS: [(&str, &str); 8] = [
    ("commands", "Describe"),
    ("commands", "Read"),
    ("commands", "DescribeConfigs"),
    ("ranges", "Describe"),
    ("ranges", "Read"),
    ("ranges", "DescribeConfigs"),
    ("ranges", "Write"),
    ("transactional-id", "Write"),
];

/// A user for each right of `serve`, who has all but that; one who has all; one who follows only; and one who appends.
#[test]
fn acls_grant_exactly_what_the_documentation_names() {
    let lacking = |index: usize| format!("lacks{index}");
    let users: Vec<String> =
        (0..RIGHTS.len()).map(lacking).chain(["all", "follows", "appends"].map(str::to_owned)).collect();
    let logins: String = users.iter().map(|user| format!(" user_{user}=\"right\"")).collect();
    let kafka = Kafka::start_with_secured(
        "SASL_PLAINTEXT",
        &format!(
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n\
             listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN\n\
             listener.name.secured.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{logins};\n\
             listener.name.secured.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n"
        ),
    );
    let administrator = Edgefold::kafka(&kafka, "acl").block(&["10.0.0.1"]);
    let run = |class: &str, args: &[&str]| {
        let output = java(class).args(["--bootstrap-server", &kafka.brokers()]).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    let grant = |resource: &str, operation: &str, users: &[String]| {
        let resource = match resource {
            "transactional-id" => ["--transactional-id".to_owned(), "acl.ranges".to_owned()],
            topic => ["--topic".to_owned(), format!("acl.{topic}")],
        };
        let principals = users.iter().flat_map(|user| ["--allow-principal".to_owned(), format!("User:{user}")]);
        let args: Vec<String> = ["--add".to_owned(), "--operation".to_owned(), operation.to_owned()]
            .into_iter()
            .chain(resource)
            .chain(principals)
            .collect();
        run("org.apache.kafka.tools.AclCommand", &args.iter().map(String::as_str).collect::<Vec<_>>());
    };
    for (index, (resource, operation)) in RIGHTS.into_iter().enumerate() {
        let mut who: Vec<String> = (0..RIGHTS.len()).filter(|other| *other != index).map(lacking).collect();
        who.push("all".to_owned());
        if operation != "Write" {
            who.push("follows".to_owned());
        }
        if resource == "commands" && operation == "Describe" {
            who.push("appends".to_owned());
        }
        grant(resource, operation, &who);
    }
    grant("commands", "Write", &["appends".to_owned()]);

    let edgefold = Edgefold::over(&kafka.secured_log("acl"));
    let login = |user: &str, mechanism: &str, password: &str| {
        let file = edgefold.path(&format!("{user}-{mechanism}-{password}"));
        let text = format!(
            "security.protocol=SASL_PLAINTEXT\nsasl.mechanism={mechanism}\nsasl.username={user}\nsasl.password={password}\n"
        );
        std::fs::write(&file, text).unwrap();
        file
    };
    let plain = |user: &str| login(user, "PLAIN", "right");

    // With all rights, over SCRAM.
    run(
        "kafka.admin.ConfigCommand",
        &[
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            "all",
            "--add-config",
            "SCRAM-SHA-512=[password=scrambled]",
        ],
    );
    let scram = login("all", "SCRAM-SHA-512", "scrambled");
    let serve = edgefold.serve(&["-F", &scram]);
    serve.wait_until_writer();
    serve.wait_for_view(1);
    assert!(!serve.output().contains("cannot be checked"), "{}", serve.output());
    let wrong = login("all", "SCRAM-SHA-512", "wrong");
    edgefold.outcome(&["list", "-F", &wrong]).assert_failed(ERROR, "Authentication failed");
    edgefold.run(&["verify", "-F", &scram]);
    assert!(serve.stop().success());

    // Who follows only cannot write; who appends can do nothing else.
    let follows = edgefold.serve(&["--no-view", "-F", &plain("follows")]);
    edgefold.run(&["block", "10.0.0.3", "-F", &plain("appends")]);
    follows.wait_until_shipped(2);
    edgefold
        .outcome(&["block", "10.0.0.5", "-F", &plain("follows")])
        .assert_failed(ERROR, "authorization failed; nothing was appended");
    edgefold.outcome(&["list", "-F", &plain("appends")]).assert_failed(ERROR, "authorization failed");
    assert!(follows.stop().success());

    // All rights but one: what does it say, and does it ship nevertheless?
    administrator.allow(&["10.0.0.1"]);
    // Each start takes half a minute, until it gives up because no record comes. So all run at once, each in its own folder.
    let is_read = |index: &usize| RIGHTS[*index].1 == "Read";
    let blind = (0..RIGHTS.len()).filter(is_read).map(|index| {
        let serve = Edgefold::over(&kafka.secured_log("acl")).start_serve(&["-F", &plain(&lacking(index))]);
        (index, serve)
    });
    let blind: Vec<_> = blind.collect();
    for index in (0..RIGHTS.len()).filter(|index| !is_read(index)) {
        let (resource, operation) = RIGHTS[index];
        let what = format!("without {operation} on {resource}");
        let serve = edgefold.start_serve(&["-F", &plain(&lacking(index))]);
        let words = match (resource, operation) {
            (_, "DescribeConfigs") => &format!(
                "the configuration of topic acl.{resource} cannot be checked: the ACL for DESCRIBE_CONFIGS is missing"
            ),
            ("ranges", "Write") => "Topic authorization failed",
            (_, "Write") => "Transactional Id authorization failed",
            // Whoever may read a topic may describe it.
            _ => "caught up at offset 3",
        };
        edgefold_tests::eventually(&format!("{what}: {words:?}"), || {
            if operation == "Write" {
                // There must be something to write.
                administrator.block(&["192.0.2.1"]);
            }
            serve.output().to_lowercase().contains(&words.to_lowercase()).then_some(())
        });
        serve.wait_for("edgefold_snapshots_shipped_total", 1);
        assert_joins_no_group(&serve);
    }
    for (index, serve) in &blind {
        serve.wait_for_log_line(&format!("cannot read acl.{}: ", RIGHTS[*index].0));
        serve.wait_for_log_line("Topic authorization failed");
        serve.wait_for_log_line("trying again in");
        assert_eq!(serve.metric("edgefold_snapshots_shipped_total"), Some(0), "lacks {:?}", RIGHTS[*index]);
        assert_joins_no_group(serve);
    }
}

fn assert_joins_no_group(serve: &Serve) {
    assert!(!serve.output().contains("Group authorization failed"), "{}", serve.output());
}
