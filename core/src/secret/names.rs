//! Detection of names whose values are secrets.

use crate::escape::is_invisible;

/// Returns `true` if a name suggests a secret: `api_key`, `hfToken`, `X-Auth-Token`,
/// `database_url`, `sinks.wandb.api_key`.
///
/// An ambiguous name counts as a secret, unless training programs use the name for something else:
/// `pad_token`, `max_tokens`, `random_key` and `pin_memory` are not secrets. The test below lists
/// examples of both.
pub(crate) fn is_secret_name(name: &str) -> bool {
    let words = words(name);
    !describes_secret(&words) && (0..words.len()).any(|at| is_secret_word(&words, at))
}

/// Returns `true` if a name certainly means a secret, even in prose.
pub(super) fn is_certain_secret_name(name: &str) -> bool {
    is_secret_name(name) && {
        let words = words(name);
        words.len() > 1 || words.iter().any(|word| is_always_secret(singular(word)))
    }
}

/// Returns `true` if a name is a plural, which may be a count: `tokens`.
pub(super) fn is_plural(name: &str) -> bool {
    words(name).last().is_some_and(|last| singular(last) != last)
}

/// Returns `true` if a URL parameter of this name is a signature.
pub(super) fn is_signature(name: &str) -> bool {
    words(name)
        .last()
        .is_some_and(|last| matches!(&**last, "sig" | "signature"))
}

/// Splits a name in any notation into lower-case words: `hfToken2`, `HF_TOKEN`, `hf-token`,
/// `hf token`.
fn words(name: &str) -> Vec<String> {
    let chars: Vec<char> = name.chars().filter(|c| !is_invisible(*c)).collect();
    let mut words = vec![String::new()];
    for (at, c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| chars[before]);
        let ends_acronym = || chars.get(at + 1).is_some_and(|after| after.is_lowercase());
        let begins = match before {
            Some(before) if c.is_uppercase() => !before.is_uppercase() || ends_acronym(),
            _ => false,
        };
        if begins || !c.is_alphanumeric() {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
    }
    words
        .iter()
        .flat_map(|word| split_compound(strip_number(word)))
        .collect()
}

/// Strips a trailing number: `token1` is a token. `b64` and `s3` stay, and `v2` and `2` become
/// empty.
fn strip_number(word: &str) -> &str {
    let bare = word.trim_end_matches(|c: char| c.is_ascii_digit());
    match bare {
        "" | "v" => bare.trim_start_matches('v'),
        bare if bare.len() < 3 => word,
        bare => bare,
    }
}

/// Splits a compound such as `hftoken` into `hf token`, if the first part is the name of a service.
fn split_compound(word: &str) -> Vec<String> {
    let split = ["tokens", "token", "keys", "key", "pass", "url", "uri", "id"]
        .iter()
        .find_map(|end| {
            let front = word.strip_suffix(end)?;
            let is_service = has(SERVICES, front) || has(DATABASES, front) || front == "session";
            is_service.then(|| vec![front.to_owned(), (*end).to_owned()])
        });
    let whole = || [word.to_owned()].into_iter().filter(|word| !word.is_empty()).collect();
    split.unwrap_or_else(whole)
}

fn singular(word: &str) -> &str {
    match word.strip_suffix('s') {
        Some(one) if one.len() > 2 && !one.ends_with('s') => one,
        _ => word,
    }
}

/// Returns `true` for names of facts about a secret: `token_count`, `password_length`,
/// `api_key_env`.
fn describes_secret(words: &[String]) -> bool {
    let is_address = |last: &str| matches!(last, "url" | "uri" | "domain");
    words.len() > 1
        && words.last().is_some_and(|last| {
            let of_auth = words.iter().any(|word| matches!(&**word, "auth" | "oauth"));
            has(FACTS, last) || (of_auth && is_address(last))
        })
}

fn is_secret_word(words: &[String], at: usize) -> bool {
    let word = singular(&words[at]);
    let many = word != words[at];
    let before = at.checked_sub(1).map(|before| &*words[before]);
    let after = words.get(at + 1).map(|after| &**after);
    let is_service = |word: Option<&str>| word.is_some_and(|word| has(SERVICES, word));
    let of_many = || words[..at].is_empty() || words[..at].iter().any(|word| is_service(Some(word)));
    // `num_tokens` is a count, `pad_token` a piece of text, `hf_token_read` and `token_hf` are
    // secrets.
    let is_credential = |innocent: &str| match (before, after) {
        (_, None) if many => of_many(),
        (before, None) => !before.is_some_and(|before| has(innocent, before)),
        (before, after) => is_service(before) || is_service(after) || after.is_some_and(|after| has(VARIANTS, after)),
    };
    let is_personal = before.is_some_and(|before| has(PERSONAL, before));
    match word {
        word if is_always_secret(word) => true,
        "token" => is_credential(TEXT_TOKENS),
        "key" => is_credential(LOOKUP_KEYS),
        "pass" => after.is_none() && !before.is_some_and(|before| has(PASSES, before)),
        "pin" | "pw" => (after.is_none() && (before.is_none() || is_personal)) || after == Some("code"),
        "session" if !many => after == Some("id") || (after.is_none() && (before.is_none() || is_personal)),
        "word" | "phrase" | "code" => matches!(before, Some("pass" | "seed" | "recovery")),
        "url" | "uri" | "string" | "str" => before.is_some_and(|before| has(DATABASES, before)),
        _ => false,
    }
}

fn is_always_secret(word: &str) -> bool {
    has(ALWAYS, word) || WITHIN.split_whitespace().any(|part| word.contains(part))
}

/// Returns `true` if a list of words contains the word.
fn has(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|of_list| of_list == word)
}

/// Words that always mean a secret.
const ALWAYS: &str = "
    auth bearer cookie cred csrf dsn jwt mnemonic netrc oauth otp pat pswd psw pwd sas totp webhook xoauth xsrf
";

/// Parts of words that always mean a secret.
const WITHIN: &str = "
    accesskey accesstoken apikey authorization authtoken credential kennwort passcode passphrase passwd password
    passwort privatekey secret
";

/// Services that issue keys and tokens, and purposes of keys and tokens.
const SERVICES: &str = "
    access account admin anthropic api auth aws azure bearer bot claude clearml client cohere comet csrf databricks
    datadog decryption deepseek deploy discord docker encrypt encryption gcp gemini gh git github gitlab google groq
    hf hmac hub huggingface jwt kaggle license login master mistral mlflow neptune npm oauth openai openrouter
    personal pinecone private pypi refresh replicate root s3 secret sendgrid sentry service signing slack snowflake
    ssh storage stripe subscription telegram vault wandb xsrf
";

/// Services and connections whose URLs contain a name and a password.
const DATABASES: &str = "
    amqp broker celery clickhouse conn connection database db elastic jdbc kafka mongo mongodb mysql pg postgres
    postgresql presigned rabbitmq redis signed sqlalchemy
";

/// Words for forms and uses of a secret.
const VARIANTS: &str = "
    b64 backup base dev hex live new old pem plain prod production raw read ro rw staging write
";

/// Words before `pin`, `session` and `pw` that make them secrets.
const PERSONAL: &str = "
    account admin auth bank browser card db device flask http login security sim unlock user web
";

/// Last words of facts about a secret, which may be shown.
const FACTS: &str = "
    age alg algorithm audience backend budget count dim dims dir directory disabled dropout embedding embeddings
    enabled endpoint env expiration expires expiry file filename folder format hint host hostname index interval
    issuer kind len length lifetime limit loss mask max method min mode name names num number path period policy port
    position prompt provider rate realm required rotation scheme scope scopes server size source status strength
    timeout tokenizer ttl type types user username version weight
";

/// Words before `token` that mean a piece of text.
const TEXT_TOKENS: &str = "
    action added any assistant audio begin blank boi bos bpe byte call char class cls context control decoder dist
    distill draft dummy each encoder end eod eoi eom eos eot extra feature fim first forced function global head im
    image img infill input lang language last latent learnable local mask max mean memory middle min n newline next
    nl num obs one output pad padding patch per placeholder pool pooling prefix prev prompt reg register reserved
    reward role sentinel sep separator silence single soft sos sot source spatial special speech start state stop sub
    subword suffix suppress system target task text think thinking tool total trigger turn unk unknown video virtual
    vision visual vocab word
";

/// Words before `key` that mean a lookup key, or a key of a random generator.
const LOOKUP_KEYS: &str = "
    action answer any arrow attention attn audio batch best cache caption category checkpoint chosen ckpt class
    column config content cross data dataset dict doc document edge embedding epoch eval event feature field first
    foreign graph group grouping hash head hot id image index input item jax join json k kv label last layer log
    lookup loss map mask memory message metric model module monitor n name next node num object obs observation
    optimizer output param params partition per primary prng prompt public q query question random rank record
    rejected response reward rng routing row sample score seed self shard short sort source split src state step
    target task text tgt time timestamp title token train unique v val value video weight world yaml
";

/// Words before `pass` that mean one pass over something.
const PASSES: &str = "
    all backward band bwd by current data decode denoise double each encode eval final first forward full fwd high
    inference last low max multi n num one per second single
";

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "
        api_key apikey apiKey API_KEY hf_token hfToken authToken accessToken access_token password passwd pwd
        pass passphrase PASSWORD userPassword db_password dbPassword secret clientSecret client_secret
        secretKey secret_access_key aws_secret_access_key AWS_SECRET_ACCESS_KEY awsSecretAccessKey private_key
        privateKey ssh_key bearer authorization Authorization auth auth_header credentials credential cookie
        session session_id jwt tokens api_keys secrets passwords token_hf openai_key openai_api_key_2 api.key
        key dsn database_url connection_string wandb_key pat gh_pat refresh_token encryption_key_b64 sas_url
        hf_token_read token1 otp pin

        sinks.wandb.api_key hf-token Password use_auth_token X-Api-Key X-Auth-Token Proxy-Authorization
        Set-Cookie X-Amz-Security-Token Ocp-Apim-Subscription-Key HUGGINGFACEHUB_API_TOKEN PGPASSWORD
        MYSQL_PWD DB_PASS dbPass smtp_pass hftoken githubtoken sshkey sessionid databaseurl ANTHROPIC_API_KEY
        stripe_key GROQ_KEY apiKeys2 APIKey HFToken OAuthToken oauth2_token id_token bot_token
        SLACK_WEBHOOK_URL webhook redis_url MONGODB_URI SQLALCHEMY_DATABASE_URI conn_str pin_code user_pin
        pass_word passPhrase seed_phrase mnemonic signing_key license_key master_key account_key storage_key
        service_account_key token_v2 key_prod tokens_prod access_tokens hf_tokens ssh_keys aws_access_key_id
        session_token sessionKey presigned_url password_hash htpasswd totp_secret csrf_token creds Kennwort
        p\u{200b}assword db_pw
    ";

    const OPEN: &str = "
        tokens_per_sec tokenizer max_tokens num_tokens token_count passes bypass author authors pattern path
        spin pin_memory session_length max_new_tokens n_tokens pad_token eos_token bos_token mask_token
        patience key_dim key_padding query_key num_keys random_key

        sinks.file.keep use_cls_tokens keyword monkey use_cls_token pad-token flops_per_token eos_token_id
        padTokenId special_tokens additional_special_tokens stop_tokens train_tokens total_tokens
        warmup_tokens prompt_tokens tokens_per_batch tokens_seen token_dropout token_type_ids
        token_embedding_dim token_merging tokenize tokenization image_token audio_token think_token
        forward_pass num_passes two_pass_filter high_pass pass_rate pass_at_k compass key_size
        key_padding_mask key_value_heads key_frames kv_key rng_key prng_key sort_key image_key label_key
        cache_key public_key metric_key image_keys ignore_keys keyframes keyboard turkey hotkeys
        authorized_keys patch patterns spatial spine pinned session_name num_sessions training_session
        password_length api_key_env api_key_path token_file auth_method auth_url oauth_url token_url base_url
        learning_rate lr weight_decay batch_size hidden_size seed optimizer scheduler max_grad_norm
        warmup_steps run_name model_name dataset_path checkpoint_dir entity project group_name tags notes mode
        resume console_level passthrough surpass dim_head attention_heads sasha position_ids value_key
        train_key src_key vision_token tool_token video_token word_token desired_kl nan url urls image_url
        model_url string uri hooks hook code
    ";

    #[test]
    fn is_secret_name_decides_known_names() {
        let list = |text: &'static str| text.split_whitespace();
        let shown: Vec<&str> = list(SECRET)
            .chain(["api key"])
            .filter(|name| !is_secret_name(name))
            .collect();
        assert_eq!(shown, [""; 0], "secrets that would be shown");
        let hidden: Vec<&str> = list(OPEN).filter(|name| is_secret_name(name)).collect();
        assert_eq!(hidden, [""; 0], "hidden without need");
    }

    #[test]
    fn words_splits_every_notation() {
        for (name, expected) in [
            ("awsSecretAccessKey", "aws secret access key"),
            ("HFToken2", "hf token"),
            ("X-Api-Key", "x api key"),
            ("key_b64.v2", "key b64"),
            ("s3_bucket", "s3 bucket"),
            ("sessionid", "session id"),
            ("", ""),
        ] {
            assert_eq!(words(name).join(" "), expected, "{name}");
        }
    }
}
