package org.example.shop;

import com.sun.management.OperatingSystemMXBean;
import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.lang.management.BufferPoolMXBean;
import java.lang.management.ManagementFactory;
import java.lang.management.MemoryPoolMXBean;
import java.lang.management.MemoryType;
import java.lang.management.MemoryUsage;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Locale;
import java.util.function.ToLongFunction;

/** The Prometheus page of the service, under the names that Micrometer gives a Spring Boot application. */
final class MetricsPage {
    private final GarbageCollectorMetrics collectors = new GarbageCollectorMetrics();
    private final RequestMetrics requests;
    private final SessionStore sessions;
    private final ProductCache products;
    private final ConnectionPool connections;
    private final WorkerPool workers;
    private volatile double readySeconds;

    MetricsPage(RequestMetrics requests, SessionStore sessions, ProductCache products, ConnectionPool connections,
            WorkerPool workers) {
        this.requests = requests;
        this.sessions = sessions;
        this.products = products;
        this.connections = connections;
        this.workers = workers;
    }

    void ready(double seconds) {
        readySeconds = seconds;
    }

    void write(HttpExchange exchange) throws IOException {
        StringBuilder page = new StringBuilder(16_384);
        memory(page);
        collectors.write(page);
        process(page);
        service(page);
        byte[] body = page.toString().getBytes(StandardCharsets.UTF_8);
        try (exchange) {
            exchange.getResponseHeaders().set("Content-Type", "text/plain;version=0.0.4;charset=utf-8");
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
        }
    }

    private static void memory(StringBuilder page) {
        pools(page, "jvm_memory_used_bytes", MemoryUsage::getUsed);
        pools(page, "jvm_memory_committed_bytes", MemoryUsage::getCommitted);
        pools(page, "jvm_memory_max_bytes", MemoryUsage::getMax);
        type(page, "jvm_buffer_memory_used_bytes", "gauge");
        for (BufferPoolMXBean pool : ManagementFactory.getPlatformMXBeans(BufferPoolMXBean.class)) {
            sample(page, "jvm_buffer_memory_used_bytes", "id=\"" + pool.getName() + "\"", pool.getMemoryUsed());
        }
        type(page, "jvm_buffer_count_buffers", "gauge");
        for (BufferPoolMXBean pool : ManagementFactory.getPlatformMXBeans(BufferPoolMXBean.class)) {
            sample(page, "jvm_buffer_count_buffers", "id=\"" + pool.getName() + "\"", pool.getCount());
        }
        gauge(page, "jvm_classes_loaded_classes", ManagementFactory.getClassLoadingMXBean().getLoadedClassCount());
        counter(page, "jvm_classes_unloaded_classes_total",
                ManagementFactory.getClassLoadingMXBean().getUnloadedClassCount());
    }

    private static void pools(StringBuilder page, String name, ToLongFunction<MemoryUsage> value) {
        type(page, name, "gauge");
        for (MemoryPoolMXBean pool : ManagementFactory.getMemoryPoolMXBeans()) {
            String area = pool.getType() == MemoryType.HEAP ? "heap" : "nonheap";
            sample(page, name, "area=\"" + area + "\",id=\"" + pool.getName() + "\"", value.applyAsLong(pool.getUsage()));
        }
    }

    private void process(StringBuilder page) {
        var threads = ManagementFactory.getThreadMXBean();
        gauge(page, "jvm_threads_live_threads", threads.getThreadCount());
        gauge(page, "jvm_threads_daemon_threads", threads.getDaemonThreadCount());
        gauge(page, "jvm_threads_peak_threads", threads.getPeakThreadCount());
        type(page, "jvm_threads_states_threads", "gauge");
        var infos = threads.getThreadInfo(threads.getAllThreadIds());
        for (Thread.State state : Thread.State.values()) {
            long count = Arrays.stream(infos).filter(info -> info != null && info.getThreadState() == state).count();
            String label = state.name().toLowerCase(Locale.ROOT).replace('_', '-');
            sample(page, "jvm_threads_states_threads", "state=\"" + label + "\"", count);
        }
        var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        gauge(page, "process_cpu_usage", Math.max(0, system.getProcessCpuLoad()));
        gauge(page, "system_cpu_usage", Math.max(0, system.getCpuLoad()));
        gauge(page, "system_cpu_count", system.getAvailableProcessors());
        var runtime = ManagementFactory.getRuntimeMXBean();
        gauge(page, "process_uptime_seconds", runtime.getUptime() / 1000.0);
        gauge(page, "process_start_time_seconds", runtime.getStartTime() / 1000.0);
        gauge(page, "application_ready_time_seconds", readySeconds);
    }

    private void service(StringBuilder page) {
        gauge(page, "tomcat_sessions_active_current_sessions", sessions.active());
        gauge(page, "tomcat_sessions_active_max_sessions", sessions.activeMaximum());
        counter(page, "tomcat_sessions_created_sessions_total", sessions.created());
        counter(page, "tomcat_sessions_expired_sessions_total", sessions.expired());
        gauge(page, "tomcat_threads_busy_threads", workers.getActiveCount());
        gauge(page, "tomcat_threads_current_threads", workers.getPoolSize());
        gauge(page, "tomcat_threads_config_max_threads", workers.getMaximumPoolSize());
        gauge(page, "executor_queued_tasks", workers.getQueue().size());
        type(page, "cache_size", "gauge");
        sample(page, "cache_size", "cache=\"products\"", products.size());
        type(page, "cache_gets_total", "counter");
        sample(page, "cache_gets_total", "cache=\"products\",result=\"hit\"", products.hits());
        sample(page, "cache_gets_total", "cache=\"products\",result=\"miss\"", products.misses());
        type(page, "cache_evictions_total", "counter");
        sample(page, "cache_evictions_total", "cache=\"products\"", products.evictions());
        String pool = "pool=\"HikariPool-1\"";
        type(page, "hikaricp_connections_active", "gauge");
        sample(page, "hikaricp_connections_active", pool, connections.active());
        type(page, "hikaricp_connections_pending", "gauge");
        sample(page, "hikaricp_connections_pending", pool, connections.pending());
        type(page, "hikaricp_connections_max", "gauge");
        sample(page, "hikaricp_connections_max", pool, connections.maximum());
        type(page, "hikaricp_connections_timeout_total", "counter");
        sample(page, "hikaricp_connections_timeout_total", pool, connections.timeouts());
        type(page, "http_server_requests_seconds", "summary");
        requests.each((key, timer) -> {
            sample(page, "http_server_requests_seconds_count", key.labels(), timer.count());
            sample(page, "http_server_requests_seconds_sum", key.labels(), timer.seconds());
        });
        type(page, "http_server_requests_seconds_max", "gauge");
        requests.each((key, timer) ->
                sample(page, "http_server_requests_seconds_max", key.labels(), timer.maximumSeconds()));
    }

    static void type(StringBuilder page, String name, String type) {
        page.append("# TYPE ").append(name).append(' ').append(type).append('\n');
    }

    static void gauge(StringBuilder page, String name, double value) {
        type(page, name, "gauge");
        sample(page, name, "", value);
    }

    static void counter(StringBuilder page, String name, double value) {
        type(page, name, "counter");
        sample(page, name, "", value);
    }

    static void sample(StringBuilder page, String name, String labels, double value) {
        page.append(name);
        if (!labels.isEmpty()) {
            page.append('{').append(labels).append('}');
        }
        page.append(' ').append(value).append('\n');
    }
}
