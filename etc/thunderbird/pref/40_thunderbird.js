// SPDX-License-Identifier: GPL-3.0-or-later
//
// Thunderbird's settings for new and old profiles. Own ones: about:config, or a file
// that sorts after this one.

// Tor, at this machine's own address; names are looked up there too.
pref("network.proxy.socks_remote_dns", true);
pref("network.proxy.type", 1);
pref("network.proxy.failover_timeout", 1800);
pref("network.proxy.socks", "127.0.0.1");
pref("network.proxy.socks_port", 9102);
pref("network.proxy.socks_version", 5);

// Ports that other programs of this machine and of the Gateway listen on.
pref("network.security.ports.banned", "631,6136,4444,4445,6668,7656,7657,7658,7659,7660,8998,9040,9050,9062,9150,9051");

// The network otherwise.
pref("network.dns.disablePrefetch", true);
pref("network.protocol-handler.warn-external.http", true);
pref("network.protocol-handler.warn-external.https", true);
pref("network.protocol-handler.warn-external.ftp", true);
pref("network.protocol-handler.warn-external.file", true);
pref("network.protocol-handler.warn-external-default", true);
pref("network.http.pipelining", true);
pref("network.http.pipelining.aggressive", true);
pref("network.http.pipelining.ssl", true);
pref("network.http.proxy.pipelining", true);
pref("network.http.spdy.enabled", false);
pref("network.http.altsvc.enabled", false);
pref("network.http.altsvc.oe", false);
pref("network.websocket.enabled", false);
pref("network.prefetch-next", false);
pref("network.protocol-handler.app.http", "x-www-browser");
pref("network.protocol-handler.app.https", "x-www-browser");
pref("network.http.pipelining.maxrequests", 12);
pref("network.http.connection-retry-timeout", 0);
pref("network.http.max-persistent-connections-per-proxy", 256);
pref("network.http.pipelining.reschedule-timeout", 15000);
pref("network.http.pipelining.read-timeout", 60000);
pref("network.http.sendRefererHeader", 2);
pref("network.cookie.cookieBehavior", 1);
pref("network.cookie.lifetimePolicy", 2);

// TLS and certificates.
pref("security.warn_entering_weak", true);
pref("security.warn_submit_insecure", true);
pref("security.ssl.enable_false_start", true);
pref("security.ssl.require_safe_negotiation", true);
pref("security.ssl.treat_unsafe_negotiation_as_broken", true);
pref("security.OCSP.GET.enabled", false);
pref("security.OCSP.require", false);
pref("security.enable_tls_session_tickets", false);
pref("security.enable_ssl3", false);
pref("security.OCSP.enabled", 1);
pref("security.tls.version.min", 3);
pref("security.cert_pinning.enforcement_level", 2);
pref("security.family_safety.mode", 0);

// Accounts are found by TLS or not at all, and nobody is asked who would be told.
pref("mailnews.auto_config.fetchFromISP.sslOnly", true);
pref("mailnews.auto_config.sslOnly", true);
pref("mailnews.auto_config.guess.sslOnly", true);
pref("mailnews.auto_config.fetchFromExchange.enabled", false);
pref("mailnews.auto_config.mx.enabled", false);
pref("mailnews.auto_config.account_constraints.allow_oauth2", false);
pref("mailnews.auto_config.guess.timeout", 30);

// Mail: what it says of this machine, and what is shown of it.
pref("mail.tabs.autoHide", true);
pref("mailnews.p7m_subparts_external", true);
pref("mail.suppress_content_language", true);
pref("mail.sanitize_date_header", true);
pref("mail.startup.enabledMailCheckOnce", true);
pref("mail.shell.checkDefaultMail", false);
pref("mailnews.database.global.indexer.enabled", false);
pref("mail.chat.enabled", false);
pref("mail.server.default.enableAutocrypt", false);
pref("mail.html_compose", false);
pref("mail.identity.default.compose_html", false);
pref("mail.provider.enabled", false);
pref("mail.shell.checkDefaultClient", false);
pref("mail.inline_attachments", false);
pref("mail.server.default.use_idle", false);
pref("mailnews.start_page.enabled", false);
pref("mail.identity.default.attachPgpKey", false);
pref("mail.rights.version", 1);
pref("mail.smtpserver.default.hello_argument", "[127.0.0.1]");
pref("mail.default_html_action", 1);
pref("mail.identity.default.encryptionpolicy", 2);

// Telemetry and reports.
pref("toolkit.telemetry.rejected", true);
pref("toolkit.telemetry.enabled", false);
pref("datareporting.healthreport.service.enabled", false);
pref("datareporting.healthreport.uploadEnabled", false);
pref("datareporting.policy.dataSubmissionEnabled", false);
pref("toolkit.telemetry.prompted", 2);
pref("datareporting.healthreport.about.reportUrl", "data:text/plain,");

// Extensions. The list of blocked ones is kept (defect D-28).
pref("extensions.update.enabled", false);
pref("extensions.blocklist.enabled", true);
pref("extensions.getAddons.cache.enabled", false);
pref("extensions.autoDisableScopes", 3);
pref("extensions.enabledScopes", 4);

// Scripts, media and what pages could measure.
pref("dom.event.highrestimestamp.enabled", true);
pref("webgl.disabled", true);
pref("browser.cache.disk.enable", false);
pref("browser.cache.memory.enable", false);
pref("browser.cache.offline.enable", false);
pref("browser.formfill.enable", false);
pref("browser.chrome.site_icons", false);
pref("browser.chrome.favicons", false);
pref("dom.storage.enabled", false);
pref("device.sensors.enabled", false);
pref("dom.battery.enabled", false);
pref("dom.enable_performance", false);
pref("dom.gamepad.enabled", false);
pref("dom.indexedDB.enabled", false);
pref("dom.enable_resource_timing", false);
pref("dom.enable_user_timing", false);
pref("browser.safebrowsing.enabled", false);
pref("browser.safebrowsing.malware.enabled", false);
pref("geo.enabled", false);
pref("javascript.enabled", false);
pref("media.navigator.enabled", false);
pref("media.peerconnection.enabled", false);
pref("layout.css.visited_links_enabled", false);
pref("browser.search.countryCode", "US");
pref("browser.search.region", "US");
pref("browser.search.geoip.url", "");
pref("media.cache_size", 0);
pref("permissions.default.image", 3);

// Chats.
pref("purple.logging.log_chats", false);
pref("purple.logging.log_ims", false);
pref("purple.logging.log_system", false);
pref("purple.conversations.im.send_typing", false);
pref("messenger.status.reportIdle", false);
pref("messenger.status.awayWhenIdle", false);
pref("messenger.status.defaultIdleAwayMessage", "");
pref("messenger.status.userDisplayName", "");
pref("messenger.startup.action", 0);
pref("messenger.conversations.autoAcceptChatInvitations", 0);
pref("messenger.options.filterMode", 0);
pref("messenger.conversations.selections.systemMessagesTemplate", "%message%");
pref("messenger.conversations.selections.contentMessagesTemplate", "%sender%: %message%");
pref("messenger.conversations.selections.actionMessagesTemplate", "%sender% %message%");

// Feeds and calendars.
pref("rss.display.prefer_plaintext", true);
pref("calendar.useragent.extra", "");
pref("rss.display.disallow_mime_handlers", 3);
pref("rss.display.html_as", 1);
pref("rss.show.content-base", 1);

// The rest.
pref("signon.autofillForms", false);
pref("general.config.filename", "thunderbird.cfg");
pref("general.config.obscure_value", 0);
pref("intl.locale.requested", "");
pref("spellchecker.dictionary_path", "/usr/share/hunspell");
pref("general.useragent.override", "");
