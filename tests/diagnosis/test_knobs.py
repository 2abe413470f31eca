"""Known mechanisms: keys and metric names in anybody's spelling lead to the right family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.diagnosis.knobs import (
    KNOBS_BYTES_MAX,
    MEMORY,
    UNKNOWN_DIRECTION,
    WORK,
    Because,
    Effect,
    Harms,
    HarmsCalled,
    Knob,
    harm_of,
    harm_to_called,
    log_sign,
    match_knob,
    metric_fits,
    parse_knobs,
    shared_words,
    speaks_of_another,
    word_direction,
    words,
)
from advisor.errors import PlaybookInvalid

KNOBS = parse_knobs((Path(__file__).parents[2] / "playbooks" / "knobs.yaml").read_text())
FAMILY = """
- family: session_lifetime
  keys: [session timeout]
  effect: holds
  moves: {heap: 1.0}
  says: sessions are kept longer
  source: the servlet specification
"""

BY_NAME = {knob.family: knob for knob in KNOBS}
# Keys as projects write them: Spring Boot, Hibernate, resilience4j, Kubernetes, Helm, Compose, Istio, nginx, PostgreSQL, MySQL,
# Redis, Kafka, Go, Node.js, Rails, Django, SQLAlchemy, Gunicorn, PHP, JVM flags, environment variables.
SPELLINGS = {
    "connection_pool": """
        spring.datasource.hikari.maximum-pool-size
        SPRING_DATASOURCE_HIKARI_MAXIMUM_POOL_SIZE
        spring.datasource.tomcat.max-active
        spring.datasource.dbcp2.max-total
        c3p0.maxPoolSize
        hibernate.c3p0.max_size
        DB_POOL_SIZE
        SQLALCHEMY_POOL_SIZE
        sqlalchemy.max_overflow
        database.maxOpenConns
        DB_MAX_OPEN_CONNS
        production.pool
        pgbouncer.default_pool_size
        pgbouncer.max_client_conn
        knex.pool.max
        mysql.connectionLimit
        spring.data.redis.lettuce.pool.max-active
        spring.redis.jedis.pool.max-active
        quarkus.datasource.jdbc.max-size
        poolsize
        db.poolSize
        spec.trafficPolicy.connectionPool.tcp.maxConnections
        spring.data.mongodb.maxPoolSize
        data.application[yaml].spring.datasource.hikari.maximumPoolSize
        spec.template.spec.containers[worker].env[DB_POOL_SIZE].value
    """,
    "pool_idle": """
        spring.datasource.hikari.minimum-idle
        spring.redis.lettuce.pool.max-idle
        db.maxIdleConns
        DB_MAX_IDLE_CONNS
        spring.datasource.hikari.minimumIdle
        http.transport.maxIdleConnsPerHost
        knex.pool.min
    """,
    "pool_acquire_timeout": """
        spring.datasource.hikari.connection-timeout
        spring.datasource.dbcp2.max-wait-millis
        spring.redis.lettuce.pool.max-wait
        http.client.connection-request-timeout
        c3p0.checkoutTimeout
        SQLALCHEMY_POOL_TIMEOUT
        knex.acquireTimeoutMillis
        db.pool.acquire-timeout
        spring.cloud.gateway.httpclient.pool.acquire-timeout
    """,
    "connection_lifetime": """
        spring.datasource.hikari.max-lifetime
        spring.datasource.hikari.idle-timeout
        db.connMaxLifetime
        DB_CONN_MAX_LIFETIME
        SQLALCHEMY_POOL_RECYCLE
        CONN_MAX_AGE
        pgbouncer.server_idle_timeout
        grpc.server.max-connection-age
    """,
    "pool_validation": """
        spring.datasource.hikari.leak-detection-threshold
        spring.datasource.tomcat.test-on-borrow
        spring.datasource.tomcat.validation-query
        SQLALCHEMY_POOL_PRE_PING
        spring.datasource.hikari.connection-test-query
    """,
    "http_client_pool": """
        http.client.max-connections-per-route
        feign.httpclient.max-connections
        HTTP_CLIENT_MAX_PER_ROUTE
        okhttp.dispatcher.maxRequestsPerHost
        http.agent.maxSockets
        spring.cloud.gateway.httpclient.pool.max-connections
        transport.maxConnsPerHost
    """,
    "server_connections": """
        server.tomcat.max-connections
        events.worker_connections
        haproxy.frontend.maxconn
    """,
    "db_max_connections": """
        postgresql.max_connections
        mysqld.max_connections
        redis.maxclients
    """,
    "accept_backlog": """
        server.tomcat.accept-count
        gunicorn.backlog
        net.core.somaxconn
        redis.tcp-backlog
    """,
    "http_keepalive": """
        nginx.keepalive_timeout
        server.tomcat.keep-alive-timeout
        http.keepalive_requests
        server.idleTimeout
        spec.trafficPolicy.connectionPool.http.maxRequestsPerConnection
    """,
    "thread_pool": """
        server.tomcat.threads.max
        server.tomcat.max-threads
        server.undertow.threads.worker
        server.jetty.threads.max
        spring.task.execution.pool.max-size
        spring.task.scheduling.pool.size
        hystrix.threadpool.default.coreSize
        executor.maxPoolSize
        akka.actor.default-dispatcher.fork-join-executor.parallelism-max
        worker.threads
        payments.executor.core-size
    """,
    "process_workers": """
        WEB_CONCURRENCY
        GUNICORN_WORKERS
        gunicorn.threads
        uwsgi.processes
        puma.workers
        RAILS_MAX_THREADS
        nginx.worker_processes
        pm.max_children
        CELERY_WORKER_CONCURRENCY
        sidekiq.concurrency
    """,
    "worker_recycling": """
        gunicorn.max_requests
        pm.max_requests
        uwsgi.reload-on-rss
    """,
    "runtime_parallelism": """
        env[GOMAXPROCS].value
        UV_THREADPOOL_SIZE
        env[JAVA_OPTS].value:-XX:ActiveProcessorCount
        OMP_NUM_THREADS
    """,
    "queue_capacity": """
        spring.task.execution.pool.queue-capacity
        executor.queueCapacity
        mysql.queueLimit
        spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests
    """,
    "remote_timeout": """
        feign.client.config.default.readTimeout
        payments.client.connect-timeout
        spring.redis.timeout
        resilience4j.timelimiter.instances.payments.timeout-duration
        hystrix.command.default.execution.isolation.thread.timeoutInMilliseconds
        http.client.requestTimeout
        spec.http[0].timeout
        spec.http[0].retries.perTryTimeout
        axios.timeout
        PAYMENTS_TIMEOUT_MS
        server.writeTimeout
        uwsgi.harakiri
        php.max_execution_time
        server.tomcat.connection-timeout
        grpc.client.payments.deadline
    """,
    "db_timeout": """
        statement_timeout
        spring.jpa.properties.jakarta.persistence.query.timeout
        idle_in_transaction_session_timeout
        innodb_lock_wait_timeout
        spring.transaction.default-timeout
        lock_timeout
        database.statementTimeout
    """,
    "proxy_timeout": """
        metadata.annotations[nginx.ingress.kubernetes.io/proxy-read-timeout]
        nginx.proxy_connect_timeout
        nginx.proxy_send_timeout
        spring.cloud.gateway.httpclient.response-timeout
    """,
    "delay": """
        payments.delay-ms
        checkout.simulated-latency
        worker.sleep
    """,
    "retries": """
        resilience4j.retry.instances.payments.max-attempts
        spring.kafka.producer.retries
        spec.http[0].retries.attempts
        HTTP_MAX_RETRIES
        feign.retryer.maxAttempts
        ribbon.MaxAutoRetries
        spring.rabbitmq.listener.simple.retry.max-attempts
        spring.rabbitmq.listener.simple.retry.enabled
    """,
    "retry_backoff": """
        resilience4j.retry.instances.payments.wait-duration
        spring.rabbitmq.listener.simple.retry.initial-interval
        http.client.retry-delay
        retry.backoff.ms
    """,
    "hedging": """
        grpc.hedgingPolicy.maxAttempts
        client.hedge.enabled
    """,
    "circuit_breaker": """
        resilience4j.circuitbreaker.instances.payments.failure-rate-threshold
        resilience4j.circuitbreaker.instances.payments.sliding-window-size
        resilience4j.circuitbreaker.instances.payments.wait-duration-in-open-state
        hystrix.command.default.circuitBreaker.requestVolumeThreshold
        spec.trafficPolicy.outlierDetection.consecutive5xxErrors
        spec.trafficPolicy.outlierDetection.baseEjectionTime
    """,
    "bulkhead": """
        resilience4j.bulkhead.instances.payments.max-concurrent-calls
        resilience4j.bulkhead.instances.payments.max-wait-duration
        spec.trafficPolicy.connectionPool.http.http2MaxRequests
        grpc.server.max-concurrent-streams
        hystrix.command.default.execution.isolation.semaphore.maxConcurrentRequests
        uvicorn.limit_concurrency
        spec.template.spec.containerConcurrency
    """,
    "rate_limit": """
        resilience4j.ratelimiter.instances.api.limit-for-period
        metadata.annotations[nginx.ingress.kubernetes.io/limit-rps]
        spring.cloud.gateway.routes[0].filters[0].args.redis-rate-limiter.replenishRate
        RATE_LIMIT_PER_MINUTE
        api.throttling.burst
        quota.requestsPerMinute
    """,
    "batch_size": """
        spring.jpa.properties.hibernate.jdbc.batch_size
        spring.kafka.consumer.max-poll-records
        spring.rabbitmq.listener.simple.prefetch
        jdbc.fetchSize
        spring.data.web.pageable.default-page-size
        export.chunk-size
    """,
    "cache_size": """
        cache.products.maximum-size
        spring.cache.caffeine.spec
        PRODUCT_CACHE_MAX_ENTRIES
        cache.maxEntries
    """,
    "cache_lifetime": """
        cache.products.ttl
        spring.cache.redis.time-to-live
        cache.expireAfterWrite
        PRICE_CACHE_TTL_SECONDS
    """,
    "cache_soft": """
        spring.cache.type
        cache.enabled
        hibernate.cache.use_second_level_cache
    """,
    "cache_bypass": """
        pricing.skip-cache
        cache.disabled
    """,
    "http_cache": """
        spring.web.resources.cache.cachecontrol.max-age
        nginx.proxy_cache_valid
    """,
    "compression": """
        server.compression.enabled
        nginx.gzip_comp_level
        spring.kafka.producer.compression-type
    """,
    "serialisation": """
        spring.kafka.consumer.value-deserializer
        spring.kafka.producer.key-serializer
    """,
    "cpu_limit": """
        spec.template.spec.containers[checkout].resources.limits.cpu
        resources.limits.cpu
        services.checkout.deploy.resources.limits.cpus
        cpu_quota
    """,
    "cpu_request": """
        spec.template.spec.containers[checkout].resources.requests.cpu
        resources.requests.cpu
    """,
    "memory_limit": """
        resources.limits.memory
        services.checkout.mem_limit
    """,
    "memory_request": """
        resources.requests.memory
    """,
    "replicas": """
        spec.replicas
        replicaCount
        spec.minReplicas
        spec.maxReplicas
        autoscaling.maxReplicas
    """,
    "hpa_target": """
        spec.metrics[0].resource.target.averageUtilization
        autoscaling.targetCPUUtilizationPercentage
        spec.behavior.scaleDown.stabilizationWindowSeconds
    """,
    "probes": """
        spec.template.spec.containers[checkout].livenessProbe.timeoutSeconds
        livenessProbe.initialDelaySeconds
        livenessProbe.failureThreshold
        startupProbe.failureThreshold
        livenessProbe.httpGet.path
        livenessProbe.httpGet.port
    """,
    "readiness_probe": """
        spec.template.spec.containers[checkout].readinessProbe.failureThreshold
        readinessProbe.httpGet.path
        readinessProbe.periodSeconds
        services.checkout.healthcheck.interval
        services.checkout.healthcheck.timeout
    """,
    "shutdown_grace": """
        spec.template.spec.terminationGracePeriodSeconds
        spring.lifecycle.timeout-per-shutdown-phase
        gunicorn.graceful_timeout
        spec.template.spec.containers[checkout].lifecycle.preStop.exec.command[0]
    """,
    "rollout_strategy": """
        spec.strategy.rollingUpdate.maxUnavailable
        spec.strategy.type
        spec.minReadySeconds
        spec.progressDeadlineSeconds
    """,
    "placement": """
        spec.template.spec.nodeSelector.disktype
        spec.template.spec.priorityClassName
        AWS_REGION
        spec.template.spec.topologySpreadConstraints[0].topologyKey
    """,
    "process_start": """
        spec.template.spec.containers[checkout].command[0]
        SPRING_PROFILES_ACTIVE
        NODE_ENV
        spec.template.spec.containers[checkout].envFrom[0].configMapRef.name
        spec.template.spec.securityContext.runAsUser
    """,
    "logging": """
        logging.level.root
        LOG_LEVEL
        logging.level.org.hibernate.SQL
        spring.jpa.show-sql
        log_min_duration_statement
    """,
    "log_output": """
        logging.file.path
        logback.appender.immediateFlush
        services.checkout.logging.driver
    """,
    "disk_retention": """
        logging.logback.rollingpolicy.max-history
        logging.logback.rollingpolicy.max-file-size
        log.retention.hours
        logging.file.max-history
        log.retention.bytes
    """,
    "disk_limit": """
        spec.template.spec.containers[checkout].resources.limits.ephemeral-storage
        persistence.size
        spec.volumes[0].emptyDir.sizeLimit
    """,
    "disk_paths": """
        env[JAVA_OPTS].value:-Djava.io.tmpdir
        upload.dir
        postgres.data_directory
    """,
    "fd_limit": """
        services.checkout.ulimits.nofile
        LimitNOFILE
        nginx.worker_rlimit_nofile
    """,
    "heap_dump": """
        env[JAVA_OPTS].value:-XX:+HeapDumpOnOutOfMemoryError
        env[JAVA_OPTS].value:-XX:HeapDumpPath
    """,
    "heap_max": """
        env[JAVA_OPTS].value:-Xmx
        env[JAVA_TOOL_OPTIONS].value:-XX:MaxRAMPercentage
    """,
    "gc_choice": """
        env[JAVA_OPTS].value:-XX:+UseSerialGC
        env[JAVA_OPTS].value:-XX:MaxGCPauseMillis
    """,
    "runtime_gc": """
        GOGC
        GOMEMLIMIT
        NODE_OPTIONS:--max-old-space-size
    """,
    "jit": """
        env[JAVA_OPTS].value:-Xint
        env[JAVA_OPTS].value:-XX:TieredStopAtLevel
        opcache.enable
    """,
    "image": """
        spec.template.spec.containers[checkout].image
        image.tag
        images[0].newTag
        services.checkout.image
    """,
    "feature_flag": """
        features.new-checkout.enabled
        FEATURE_RECOMMENDATIONS
        flags.useNewPricing
    """,
    "endpoints": """
        spring.datasource.url
        payments.base-url
        PAYMENTS_HOST
        spring.kafka.bootstrap-servers
        DATABASE_URL
        spring.data.redis.host
        spec.ports[0].targetPort
        spec.externalName
        server.port
    """,
    "dns": """
        spec.template.spec.dnsConfig.options[0].ndots
        networkaddress.cache.ttl
        spec.template.spec.dnsPolicy
    """,
    "proxy_settings": """
        HTTPS_PROXY
        env[JAVA_OPTS].value:-Dhttp.proxyHost
        NO_PROXY
        server.forward-headers-strategy
    """,
    "credentials": """
        spring.datasource.username
        spring.datasource.password
        DB_PASSWORD
        env[DB_PASSWORD].valueFrom.secretKeyRef.name
        AWS_ACCESS_KEY_ID
        spring.security.oauth2.client.registration.payments.client-secret
        payments.api-key
    """,
    "certificates": """
        server.ssl.key-store
        server.ssl.certificate
        spring.ssl.bundle.jks.client.truststore.location
        spec.tls[0].secretName
        server.ssl.enabled
    """,
    "tls_policy": """
        server.ssl.enabled-protocols
        nginx.ssl_ciphers
        server.ssl.client-auth
        db.sslmode
        spec.trafficPolicy.tls.mode
        NODE_TLS_REJECT_UNAUTHORIZED
    """,
    "access_policy": """
        cors.allowed-origins
        spring.security.oauth2.resourceserver.jwt.issuer-uri
        django.ALLOWED_HOSTS
        metadata.annotations[nginx.ingress.kubernetes.io/whitelist-source-range]
        spring.security.oauth2.resourceserver.jwt.jwk-set-uri
    """,
    "routing": """
        spec.selector.app
        spec.rules[0].http.paths[0].backend.service.name
        spec.ingressClassName
        metadata.annotations[nginx.ingress.kubernetes.io/rewrite-target]
        spring.cloud.gateway.routes[0].predicates[0]
    """,
    "load_balancing": """
        spec.trafficPolicy.loadBalancer.simple
        spec.sessionAffinity
        nginx.upstream.least_conn
        spec.externalTrafficPolicy
    """,
    "traffic_split": """
        spec.http[0].route[1].weight
        metadata.annotations[nginx.ingress.kubernetes.io/canary-weight]
    """,
    "payload_size": """
        nginx.client_max_body_size
        spring.servlet.multipart.max-file-size
        metadata.annotations[nginx.ingress.kubernetes.io/proxy-body-size]
        grpc.server.max-inbound-message-size
        max.message.bytes
        server.max-http-header-size
        max_allowed_packet
    """,
    "session_lifetime": """
        server.servlet.session.timeout
    """,
    "token_lifetime": """
        auth.jwt.expiration
        security.access-token-ttl
    """,
    "cookies": """
        server.servlet.session.cookie.same-site
        server.servlet.session.cookie.name
    """,
    "consumer_concurrency": """
        spring.kafka.listener.concurrency
        spring.rabbitmq.listener.simple.max-concurrency
        spring.rabbitmq.listener.simple.concurrency
    """,
    "consumer_settings": """
        spring.kafka.consumer.group-id
        spring.kafka.consumer.auto-offset-reset
        spring.kafka.consumer.properties.max.poll.interval.ms
        kafka.consumer.session.timeout.ms
        spring.kafka.listener.ack-mode
        sqs.visibilityTimeout
    """,
    "producer_settings": """
        spring.kafka.producer.properties.linger.ms
        spring.kafka.producer.properties.max.block.ms
    """,
    "durability": """
        spring.kafka.producer.acks
        synchronous_commit
        redis.appendfsync
        min.insync.replicas
        innodb_flush_log_at_trx_commit
    """,
    "partitions": """
        num.partitions
        kafka.topic.partitions
        index.number_of_shards
    """,
    "db_memory": """
        postgresql.work_mem
        postgresql.shared_buffers
        innodb_buffer_pool_size
        redis.maxmemory
        redis.maxmemory-policy
    """,
    "db_planner": """
        postgresql.enable_indexscan
        postgresql.random_page_cost
        mysql.optimizer_switch
        enable_nestloop
    """,
    "db_isolation": """
        spring.jpa.properties.hibernate.connection.isolation
        default_transaction_isolation
        spring.datasource.hikari.transaction-isolation
    """,
    "db_storage": """
        max_wal_size
        autovacuum
        checkpoint_timeout
    """,
    "jdbc_driver": """
        spring.datasource.hikari.data-source-properties.rewriteBatchedStatements
        spring.jpa.database-platform
        spring.datasource.driver-class-name
    """,
    "orm_loading": """
        spring.jpa.open-in-view
    """,
    "read_routing": """
        database.read-replica.enabled
        mongo.readPreference
    """,
    "migrations": """
        spring.jpa.hibernate.ddl-auto
        spring.flyway.enabled
        spring.liquibase.change-log
    """,
    "query_limits": """
        graphql.max-depth
        index.max_result_window
    """,
    "hash_cost": """
        security.bcrypt.strength
        password.cost
        auth.pbkdf2.iterations
        BCRYPT_SALT_ROUNDS
    """,
    "job_schedule": """
        jobs.report.cron
        spec.schedule
        reconcile.interval
        catalog.sync-interval
        report.scheduler.fixed-delay
    """,
    "tracing": """
        management.tracing.sampling.probability
        OTEL_TRACES_SAMPLER_ARG
    """,
    "fault_injection": """
        spec.http[0].fault.abort.percentage
        chaos.monkey.enabled
    """,
    "labels": """
        metadata.labels.team
        management.endpoints.web.exposure.include
        metadata.annotations.description
    """,
}
SPELLED = [(key, family) for family, keys in SPELLINGS.items() for key in keys.split()]
# Keys that are about nothing which could do harm: a family for them would be a false accusation.
HARMLESS = """
    app.name info.build.artifact spring.jackson.date-format spring.jackson.serialization.write-dates-as-timestamps kind
    spring.output.ansi.enabled spring.main.log-startup-info spring.mvc.format.date shop.greetings.morning invoice.prefix
    tax.percentage pricing.rounding mail.from ui.color shop.discount.percent order.min-amount metadata.name
    spring.application.name spring.banner.location spring.messages.basename spring.thymeleaf.prefix shop.currency
    server.error.include-message metadata.labels.team metadata.annotations.owner spec.revisionHistoryLimit
    management.endpoints.web.exposure.include springdoc.swagger-ui.path frobnicator.quux newsletter.subject
    company.vat-number shop.logo mail.signature checkout.steps.title invoice.footer.text catalog.sort-order ui.items
    support.email shop.opening-hours terms.version-text
"""


def family(key: str) -> str | None:
    found = match_knob(KNOBS, key)
    return found.family if found else None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("server.servlet.session.timeout", ("server", "servlet", "session", "timeout")),
        ("SESSION_TIMEOUT_MINUTES", ("session", "timeout", "minute")),
        ("sessionTimeout", ("session", "timeout")),
        ("maxHTTPRequests", ("max", "http", "request")),
        ("policies", ("policy",)),
        ("cache-sizes[0]", ("cache", "size", "0")),
        ("address", ("address",)),
        ("", ()),
    ],
)
def test_a_name_is_its_words(text: str, expected: tuple[str, ...]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("server.servlet.session.timeout", "session_lifetime"),
        ("SERVER_SERVLET_SESSION_TIMEOUT", "session_lifetime"),
        ("spring.session.timeout", "session_lifetime"),
        ("data.application[yaml].sessionTimeoutMinutes", "session_lifetime"),
        ("session.max-inactive-interval", "session_lifetime"),
        ("auth.jwt.expiration", "token_lifetime"),
        ("cart.ttl", "token_lifetime"),
        ("cache.products.maximum-size", "cache_size"),
        ("spring.cache.caffeine.spec", "cache_size"),
        ("PRODUCT_CACHE_MAX_ENTRIES", "cache_size"),
        ("cache.products.ttl", "cache_lifetime"),
        ("spring.task.execution.pool.queue-capacity", "queue_capacity"),
        ("spring.kafka.consumer.max-poll-records", "batch_size"),
        ("audit.retention", "retention"),
        ("spec.template.spec.containers[checkout].env[JAVA_OPTS].value:-Xmx", "heap_max"),
        ("env[JAVA_TOOL_OPTIONS].value:-XX:MaxRAMPercentage", "heap_max"),
        ("env[JAVA_OPTS].value:-XX:MaxMetaspaceSize", "metaspace_max"),
        ("env[JAVA_OPTS].value:-XX:MaxDirectMemorySize", "direct_max"),
        ("env[JAVA_OPTS].value:-Xss", "stack_size"),
        ("env[JAVA_OPTS].value:-XX:+UseSerialGC", "gc_choice"),
        ("spec.template.spec.containers[checkout].resources.limits.memory", "memory_limit"),
        ("spec.template.spec.containers[checkout].image", "image"),
        ("image.tag", "image"),
        ("server.tomcat.threads.max", "thread_pool"),
        ("spring.datasource.hikari.maximum-pool-size", "connection_pool"),
        ("spring.datasource.hikari.max-lifetime", "connection_lifetime"),
        ("payments.client.read-timeout", "remote_timeout"),
        ("spec.replicas", "replicas"),
        ("logging.level.root", "logging"),
        ("management.endpoints.web.exposure.include", "labels"),
        ("spec.template.spec.containers[checkout].livenessProbe.periodSeconds", "probes"),
        ("features.recommendations.enabled", "feature_flag"),
        ("frobnicator.quux", None),
        ("", None),
    ],
)
def test_a_key_in_anybodys_spelling_finds_its_family(key: str, expected: str | None) -> None:
    assert family(key) == expected


@pytest.mark.parametrize(("key", "expected"), SPELLED, ids=lambda value: value)
def test_a_key_as_projects_write_it_finds_its_family(key: str, expected: str) -> None:
    assert family(key) == expected


@pytest.mark.parametrize("key", HARMLESS.split())
def test_a_harmless_key_is_accused_of_nothing(key: str) -> None:
    found = match_knob(KNOBS, key)
    if found is not None:
        assert (found.harms, found.harms_called, found.moves) == (Harms(), HarmsCalled(), {}), found.family


@pytest.mark.parametrize(
    ("key", "not_this"),
    [
        ("spring.datasource.hikari.maximum-pool-size", "thread_pool"),
        ("spring.task.scheduling.pool.size", "connection_pool"),
        ("idle_in_transaction_session_timeout", "session_lifetime"),
        ("networkaddress.cache.ttl", "cache_lifetime"),
        ("innodb_buffer_pool_size", "connection_pool"),
        ("min.insync.replicas", "replicas"),
        ("resilience4j.circuitbreaker.instances.payments.sliding-window-size", "batch_size"),
        ("livenessProbe.timeoutSeconds", "remote_timeout"),
        ("readinessProbe.failureThreshold", "probes"),
        ("livenessProbe.httpGet.port", "endpoints"),
        ("spec.template.spec.containers[session-cache].resources.limits.cpu", "cache_size"),
        ("spec.template.spec.containers[worker].env[DB_POOL_SIZE].value", "thread_pool"),
        ("logging.logback.rollingpolicy.max-file-size", "payload_size"),
        ("spring.datasource.hikari.pool-name", "connection_pool"),
        ("log.direct.buffering", "log_output"),  # "log dir" is no part of "log.direct"
        ("server.servlet.session.cookie.max-age", "cache_lifetime"),
        ("gunicorn.graceful_timeout", "remote_timeout"),
        ("GRPC_KEEPALIVE_TIME_MS", "remote_timeout"),
        ("spring.kafka.consumer.properties.max.poll.interval.ms", "job_schedule"),
        ("image.repository.policy", "credentials"),
        ("server.servlet.session.cookie.max-age", "session_lifetime"),
        ("kafka.consumer.session.timeout.ms", "session_lifetime"),
        ("env[JAVA_OPTS].value:-XX:+HeapDumpOnOutOfMemoryError", "heap_max"),
        ("env[JAVA_OPTS].value:-XX:HeapDumpPath", "heap_max"),
        ("spec.template.spec.containers[checkout].resources.requests.memory", "memory_limit"),
        ("image.pullPolicy", "image"),
        ("logging.file.max-history", "retention"),
        ("spring.datasource.hikari.connection-timeout", "remote_timeout"),
    ],
)
def test_a_key_that_only_looks_like_it_belongs_elsewhere(key: str, not_this: str) -> None:
    assert family(key) != not_this


def test_what_cannot_move_memory_is_known_not_to() -> None:
    for key in ("logging.level.root", "livenessProbe.periodSeconds", "cors.allowed-origins"):
        found = match_knob(KNOBS, key)
        assert found is not None and found.effect is Effect.NONE


@pytest.mark.parametrize(
    ("key", "metric", "shared"),
    [
        ("recommendations.window", "recommendations_held", {"recommendation"}),
        ("server.servlet.session.timeout", "tomcat_sessions_active_current_sessions", {"session"}),
        ("spring.application.name", "application_started_time_seconds", set()),
        ("audit.retention", "cache_size", set()),
    ],
)
def test_a_key_and_a_metric_share_telling_words_only(key: str, metric: str, shared: set[str]) -> None:
    assert shared_words(key, metric) == shared


@pytest.mark.parametrize(
    ("key", "metric", "another"),
    [
        ("cache.prices.maximum-size", "cache_size{cache=prices}", False),
        ("cache.prices.maximum-size", "cache_size{cache=taxes}", True),
        ("cache.maximum-size", "cache_size{cache=taxes}", False),
        ("checkout.cache.maximum-size", "cache_size{cache=prices}", False),
        ("cache.product.maximum-size", "cache_size{cache=products}", False),
    ],
)
def test_a_price_cache_is_no_tax_cache(key: str, metric: str, another: bool) -> None:
    assert speaks_of_another("cache size", key, metric, "checkout") is another


def test_a_metric_fits_with_every_word() -> None:
    assert metric_fits("session active", "tomcat_sessions_active_current_sessions")
    assert not metric_fits("session active", "tomcat_sessions_expired_sessions_total")


@given(st.text(max_size=80))
def test_any_key_has_a_family_or_none(key: str) -> None:
    match_knob(KNOBS, key)
    shared_words(key, key)


def test_a_family_is_read() -> None:
    (knob,) = parse_knobs(FAMILY)
    assert (knob.family, knob.effect, knob.hidden) == ("session_lifetime", Effect.HOLDS, False)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("effect: holds", "effect: eats", "effect"),
        ("moves: {heap: 1.0}", "moves: {heap: much}", "moves.heap"),
        ("moves: {heap: 1.0}", "moves: {heap: .nan}", "moves.heap"),
        ("source: the servlet specification", "origin: x", "source"),
        ("keys: [session timeout]", "keys: session timeout", "keys"),
        ("family: session_lifetime", "family: Session-Lifetime", "family"),
        ("says: sessions", "commment: x\n  says: sessions", "commment"),
    ],
)
def test_a_family_that_is_wrong_is_refused_by_the_field(old: str, new: str, said: str) -> None:
    with pytest.raises(PlaybookInvalid, match=rf"family 1: {said}"):
        parse_knobs(FAMILY.replace(old, new))


@pytest.mark.parametrize("text", ["a: b", "42", "[", "- 1"])
def test_what_is_no_list_of_families_is_refused(text: str) -> None:
    with pytest.raises(PlaybookInvalid):
        parse_knobs(text)


# --- matching ----------------------------------------------------------------------------------------------------------


def test_the_order_of_families_does_not_matter() -> None:
    keys = [*(key for key, _ in SPELLED), *(phrase.replace(" ", ".") for knob in KNOBS for phrase in knob.keys)]
    backwards = tuple(reversed(KNOBS))
    for key in keys:
        here, there = match_knob(KNOBS, key), match_knob(backwards, key)
        assert here is not None and there is not None and here.family == there.family, key


def test_every_phrase_leads_back_to_its_family() -> None:
    astray = {
        (knob.family, phrase, found.family if found else None)
        for knob in KNOBS
        for phrase in knob.keys
        if (found := match_knob(KNOBS, phrase.replace(" ", "."))) is not knob
    }
    assert not astray


def test_of_two_families_that_fit_equally_well_the_one_read_first_wins() -> None:
    mine = parse_knobs(FAMILY.replace("session_lifetime", "my_sessions"))
    found = match_knob(mine + KNOBS, "session.timeout")
    assert found is not None and found.family == "my_sessions"


@pytest.mark.parametrize(
    "key", ["session_timeout", "sessiontimeout", "SessionTimeout", "SESSIONS_TIMEOUT", "my.sessiontimeouts"]
)
def test_neighbours_may_be_run_together(key: str) -> None:
    found = match_knob(parse_knobs(FAMILY), key)
    assert found is not None


def test_the_most_specific_phrase_wins_wherever_the_words_stand() -> None:
    two = parse_knobs(
        FAMILY.replace("session timeout", "timeout").replace("session_lifetime", "any_timeout")
        + FAMILY.replace("session timeout", "session idle timeout")
    )
    for key in ("session.idle.timeout", "idle.session.of.shop.timeout"):
        found = match_knob(two, key)
        assert found is not None and found.family == "session_lifetime"


@settings(deadline=None)
@given(st.text(max_size=700))
def test_any_line_has_a_sign_or_none(line: str) -> None:
    for knob in KNOBS[:5]:
        log_sign(knob, line)
    word_direction(line, line[::-1])


# --- harms --------------------------------------------------------------------------------------------------------------

POOL = BY_NAME["connection_pool"]


@pytest.mark.parametrize(
    ("name", "resource", "direction", "least", "most"),
    [
        ("connection_pool", "pool", -1.0, 1.0, 1.0),
        ("connection_pool", "pool", 0.7, -1.0, -1.0),  # a larger pool does not run out
        ("connection_pool", "latency", -0.1, 0.7, 0.9),
        ("connection_pool", "cpu", 2.0, 0.05, 0.2),
        ("connection_pool", "errors", 2.0, 0.3, 0.4),  # the database has a limit of its own
        ("remote_timeout", "errors", -1.0, 0.8, 1.0),
        ("remote_timeout", "errors", 1.0, 0.2, 0.3),  # held threads run out in the end
        ("replicas", "cpu", 1.0, -0.8, -0.8),
        ("remote_timeout", "workers", 1.0, 0.6, 0.8),
        ("retries", "latency", 1.0, 0.6, 0.8),
        ("cpu_limit", "cpu", -1.0, 0.9, 1.0),
        ("probes", "restarts", -1.0, 0.9, 1.0),
        ("rate_limit", "errors", -1.0, 0.9, 1.0),
        ("logging", "disk", 1.0, 0.6, 0.8),
        ("image", "errors", None, 0.7, 0.8),
        ("image", "errors", 1.0, 0.7, 0.8),  # 2.4.0 to 2.5.0 is no direction
        ("endpoints", "errors", None, 0.8, 0.9),
        ("cache_size", "latency", -3.0, 0.7, 0.9),
        ("consumer_concurrency", "queue", -1.0, 0.9, 1.0),
        ("disk_retention", "disk", 1.0, 0.8, 1.0),
        ("cpu_limit", "cpu", None, 0.95 * UNKNOWN_DIRECTION, 0.95 * UNKNOWN_DIRECTION),
    ],
)
def test_a_change_harms_by_its_direction(
    name: str, resource: str, direction: float | None, least: float, most: float
) -> None:
    found = harm_of(BY_NAME[name], resource, direction)
    assert found is not None and least <= found[0] <= most
    assert found[1].strip()


@pytest.mark.parametrize(
    ("resource", "direction"), [("heap", -1.0), ("disk", -1.0), ("nonsense", None), ("restarts", 0.0)]
)
def test_what_a_family_does_not_speak_of_is_none(resource: str, direction: float | None) -> None:
    assert harm_of(POOL, resource, direction) is None


def test_the_reason_says_which_way() -> None:
    assert harm_of(POOL, "pool", -1.0) == (1.0, POOL.because.smaller)
    other_way = harm_of(POOL, "pool", 1.0)
    assert other_way is not None and other_way[1].startswith("the value moved the other way")
    open_way = harm_of(BY_NAME["cpu_limit"], "cpu", None)
    assert open_way is not None and open_way[1].endswith("which way cannot be said")


def test_more_retries_are_load_on_the_service_that_is_called() -> None:
    found = harm_to_called(BY_NAME["retries"], "load", 1.0)
    assert found is not None and found[0] > 0.9
    smaller_cache = harm_to_called(BY_NAME["cache_size"], "load", -1.0)
    assert smaller_cache is not None and smaller_cache[0] > 0.8
    assert harm_of(BY_NAME["retries"], "load", 1.0) is None


@pytest.mark.parametrize("knob", KNOBS, ids=lambda k: k.family)
@pytest.mark.parametrize("direction", [None, 0.0, -1.0, 1.0])
def test_a_harm_is_a_strength_with_a_reason(knob: Knob, direction: float | None) -> None:
    for resource in sorted(WORK | MEMORY | {"load"}):
        for found in (harm_of(knob, resource, direction), harm_to_called(knob, resource, direction)):
            assert found is None or (-1 <= found[0] <= 1 and found[0] != 0 and found[1].strip())


@pytest.mark.parametrize("knob", KNOBS, ids=lambda k: k.family)
def test_each_direction_that_harms_says_why(knob: Knob) -> None:
    for direction in ("smaller", "larger", "other"):
        harms = getattr(knob.harms, direction) or getattr(knob.harms_called, direction)
        assert bool(harms) == bool(getattr(knob.because, direction)), direction


def test_every_trouble_of_work_has_mechanisms() -> None:
    for resource in sorted(WORK):
        strong = [k for k in KNOBS if any((harm_of(k, resource, d) or (0.0, ""))[0] >= 0.5 for d in (-1.0, 1.0, None))]
        assert len(strong) >= 5, resource


def test_mechanisms_reach_far_beyond_memory() -> None:
    work = [k for k in KNOBS if k.harms != Harms()]
    assert len(work) >= 90
    assert sum(len(k.keys) for k in work) >= 1500


@pytest.mark.parametrize(
    ("old", "new", "sign"),
    [
        ("INFO", "DEBUG", 1),
        ("debug", "warn", -1),
        ("WARNING", "INFO", 1),
        ("error", "off", -1),
        ("off", "on", 1),
        ("enabled", "disabled", -1),
        ("yes", "no", -1),
        ("'true'", "false", -1),
        ("none", "need", 1),
        ("prefer", "verify-full", 1),
        ("READ_COMMITTED", "SERIALIZABLE", 1),
        ("repeatable read", "read committed", -1),
        ("everysec", "always", 1),
        ("on", "on", 0),
        ("redis", "caffeine", 0),
        (None, "on", 0),
        ("on", None, 0),
        ("", "", 0),
    ],
)
def test_a_value_in_words_has_a_direction_where_the_words_have_an_order(
    old: str | None, new: str | None, sign: int
) -> None:
    found = word_direction(old, new)
    assert (found is None) if sign == 0 else (found is not None and found * sign > 0)


@pytest.mark.parametrize(
    ("name", "line", "sign"),
    [
        (
            "connection_pool",
            "HikariPool-1 - Connection is not available, request timed out after 30000ms.",
            "connection is not available, request timed out",
        ),
        ("connection_pool", "FATAL: sorry, too many clients already", "too many clients already"),
        ("remote_timeout", "java.net.SocketTimeoutException: Read timed out", "read timed out"),
        ("remote_timeout", 'Get "http://payments/": context deadline exceeded', "deadline exceeded"),
        ("rate_limit", "upstream answered 429 Too Many Requests", "429"),
        ("rate_limit", "order 4291 accepted", None),
        ("rate_limit", "order 1429 accepted", None),
        ("thread_pool", "java.util.concurrent.RejectedExecutionException: Task rejected", "rejectedexecutionexception"),
        ("endpoints", "java.net.ConnectException: Connection refused", "connection refused"),
        ("dns", "java.net.UnknownHostException: paymnts", "unknownhostexception"),
        ("certificates", "PKIX path building failed", "pkix path building failed"),
        ("credentials", 'FATAL: password authentication failed for user "shop"', "authentication failed"),
        ("probes", "Liveness probe failed: HTTP probe failed", "liveness probe failed"),
        ("readiness_probe", "Readiness  probe failed: timeout", "readiness probe failed"),
        ("cpu_limit", "high CPU throttling", "cpu throttl"),
        ("disk_limit", "write: no space left on device", "no space left on device"),
        (
            "circuit_breaker",
            "CircuitBreaker 'payments' is OPEN and does not permit further calls",
            "is open and does not permit further calls",
        ),
        ("bulkhead", "Bulkhead 'payments' is full and does not permit further calls", "does not permit further calls"),
        ("process_start", "checkout started in 2.1 s", None),
        ("logging", '{"level":"DEBUG","message":"cart loaded"}', "debug"),
        ("logging", '{"level":"INFO","traceId":"4bf92f35","message":"cart loaded"}', None),
    ],
)
def test_a_log_line_shows_that_a_mechanism_acts(name: str, line: str, sign: str | None) -> None:
    assert log_sign(BY_NAME[name], line) == sign


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("connection_pool", "hikaricp_connections_pending"),
        ("connection_pool", "hikaricp_connections_timeout_total"),
        ("connection_pool", "hikaricp_connections_acquire_seconds_max"),
        ("connection_pool", "go_sql_in_use_connections"),
        ("connection_pool", "go_sql_wait_duration_seconds_total"),
        ("http_client_pool", "httpcomponents_httpclient_pool_total_pending"),
        ("http_client_pool", "reactor_netty_connection_provider_pending_connections"),
        ("thread_pool", "tomcat_threads_busy_threads"),
        ("thread_pool", "executor_queued_tasks"),
        ("process_workers", "phpfpm_listen_queue"),
        ("remote_timeout", "http_client_requests_seconds_sum"),
        ("retries", "resilience4j_retry_calls_total"),
        ("circuit_breaker", "resilience4j_circuitbreaker_not_permitted_calls_total"),
        ("circuit_breaker", "envoy_cluster_outlier_detection_ejections_active"),
        ("bulkhead", "resilience4j_bulkhead_available_concurrent_calls"),
        ("rate_limit", "resilience4j_ratelimiter_available_permissions"),
        ("cache_size", "cache_gets_total"),
        ("cache_size", "cache_evictions_total"),
        ("cpu_limit", "container_cpu_cfs_throttled_periods_total"),
        ("memory_limit", "kube_pod_container_status_restarts_total"),
        ("probes", "kube_pod_container_status_restarts_total"),
        ("readiness_probe", "kube_deployment_status_replicas_available"),
        ("replicas", "kube_deployment_status_replicas_available"),
        ("consumer_concurrency", "kafka_consumer_fetch_manager_records_lag_max"),
        ("consumer_settings", "kafka_consumergroup_lag"),
        ("consumer_settings", "rabbitmq_queue_messages_unacked"),
        ("heap_max", "jvm_gc_pause_seconds_sum"),
        ("logging", "logback_events_total"),
        ("disk_retention", "node_filesystem_avail_bytes"),
        ("disk_limit", "disk_free_bytes"),
        ("fd_limit", "process_open_fds"),
        ("fd_limit", "process_files_open_files"),
        ("db_max_connections", "pg_stat_database_numbackends"),
        ("db_isolation", "pg_stat_database_deadlocks"),
        ("server_connections", "tomcat_connections_current_connections"),
        ("queue_capacity", "executor_queue_remaining_tasks"),
    ],
)
def test_a_sign_is_found_under_the_name_that_exporters_give_it(name: str, metric: str) -> None:
    assert any(metric_fits(sign, metric) for sign in BY_NAME[name].signs)


# --- what is refused -----------------------------------------------------------------------------------------------------

HARM = FAMILY.replace("  says:", "  harms: {smaller: {errors: 0.5}}\n  says:")


def test_a_harm_is_read() -> None:
    (knob,) = parse_knobs(
        HARM.replace("  says:", "  because: {smaller: sessions end sooner}\n  restart: true\n  says:")
    )
    assert knob.harms == Harms(smaller={"errors": 0.5})
    assert (knob.because, knob.restart, knob.signs) == (Because(smaller="sessions end sooner"), True, ())


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("errors: 0.5", "erors: 0.5", "harms.smaller.erors"),
        ("errors: 0.5", "heap: 0.5", "harms.smaller.heap"),
        ("errors: 0.5", "load: 0.5", "harms.smaller.load"),
        ("errors: 0.5", "errors: 1.5", "harms.smaller.errors"),
        ("errors: 0.5", "errors: -0.5", "harms.smaller.errors"),
        ("errors: 0.5", "errors: .nan", "harms.smaller.errors"),
        ("errors: 0.5", "errors: much", "harms.smaller.errors"),
        ("smaller:", "lower:", "harms.lower"),
        ("{smaller: {errors: 0.5}}", "[errors]", "harms"),
        ("harms:", "harm:", "harm"),
        ("harms:", "restart: perhaps\n  harms:", "restart"),
        ("harms:", "signs: [' - ']\n  harms:", "signs"),
        ("harms:", "log_signs: ['']\n  harms:", "log_signs"),
        ("harms:", "harms_called: {larger: {noise: 1}}\n  harms:", "harms_called.larger.noise"),
        ("harms:", "because: {larger: sessions stay}\n  harms:", "because.larger"),
        ("keys: [session timeout]", "keys: ['']", "keys"),
        ("session timeout", "a b c d e f g h i j k l m", "keys"),
        ("keys: [session timeout]", "keys: [session timeout]\n  not: ['..']", "not"),
        ("moves: {heap: 1.0}", "moves: {hepa: 1.0}", "moves.hepa"),
        ("moves: {heap: 1.0}", "moves: {heap: 3.0}", "moves.heap"),
    ],
)
def test_a_harm_that_is_wrong_is_refused_by_the_field(old: str, new: str, said: str) -> None:
    with pytest.raises(PlaybookInvalid, match=rf"family 1: {said}") as caught:
        parse_knobs(HARM.replace(old, new))
    assert str(caught.value).isprintable()


def test_a_family_twice_is_refused_by_its_name() -> None:
    with pytest.raises(PlaybookInvalid, match="family 2: family: session_lifetime stands there twice"):
        parse_knobs(FAMILY + FAMILY)


def test_a_file_that_nobody_wrote_is_refused_by_its_size() -> None:
    with pytest.raises(PlaybookInvalid, match="split it"):
        parse_knobs("#" * (KNOBS_BYTES_MAX + 1))


# --- the documentation ---------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[2] / "docs" / "playbooks.md").read_text()


def _cell(harms: Mapping[str, float]) -> str:
    strong = sorted((-strength, trouble) for trouble, strength in harms.items() if strength >= 0.3)
    return ", ".join(f"{trouble} {-strength:g}" for strength, trouble in strong) or "–"


@pytest.mark.parametrize("knob", KNOBS, ids=lambda k: k.family)
def test_the_documentation_shows_each_family_as_it_is(knob: Knob) -> None:
    harms, called = knob.harms, knob.harms_called
    sides = (("smaller", called.smaller), ("larger", called.larger), ("other", called.other))
    cells = [
        f"{knob.effect.value}: {_cell(knob.moves)}",
        *(_cell(side) for side in (harms.smaller, harms.larger, harms.other)),
        "; ".join(f"{name}: {_cell(side)}" for name, side in sides if _cell(side) != "–") or "–",
    ]
    assert f"| `{knob.family}` | {' | '.join(cells)} |" in PAGE


def test_the_documentation_counts_the_families() -> None:
    assert f"{len(KNOBS)} families with\n{sum(len(k.keys) for k in KNOBS):,} phrases" in PAGE


def test_the_worked_example_of_the_documentation_holds() -> None:
    found = match_knob(KNOBS, "payments.http.read-timeout")
    assert found is BY_NAME["remote_timeout"]
    larger = [harm_of(found, resource, 1.0) for resource in ("latency", "workers", "pool", "queue", "errors")]
    assert [one and one[0] for one in larger] == [0.7, 0.7, 0.5, 0.4, 0.25]
    assert {"threads busy", "client seconds"} <= {*found.signs} and "read timed out" in found.log_signs
    assert (found.harms_called.larger, found.because.larger) == (
        {"load": 0.3, "queue": 0.3},
        "slow calls are waited for longer, and hold threads and connections meanwhile",
    )
