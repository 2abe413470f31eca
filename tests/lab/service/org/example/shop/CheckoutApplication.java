package org.example.shop;

import com.sun.net.httpserver.HttpServer;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.nio.file.Path;
import java.util.concurrent.Executors;

/**
 * The shop's checkout service, small enough to run out of memory within a minute.
 *
 * <p>Everything that decides its fate (session timeout, cache size, pools, release, JVM flags) is read from a checkout of
 * the configuration repository, once, at start. Nothing here knows which incident is being played.
 */
public final class CheckoutApplication {
    private CheckoutApplication() {}

    public static void main(String[] arguments) throws Exception {
        long startedMillis = ManagementFactory.getRuntimeMXBean().getStartTime();
        Path configurationFolder = Path.of(arguments[0]);
        int port = Integer.parseInt(arguments[1]);
        int managementPort = Integer.parseInt(arguments[2]);
        Log.open(Path.of(arguments[3]));
        Log log = Log.of(CheckoutApplication.class);
        OutOfMemoryGuard guard = new OutOfMemoryGuard();
        Thread.setDefaultUncaughtExceptionHandler((thread, error) -> guard.uncaught(thread, error));

        Release release = Release.parse(System.getProperty("shop.release", "2.4.0"));
        Configuration configuration = Configuration.read(configurationFolder.resolve("application.yaml"));
        double compression = Double.parseDouble(System.getProperty("lab.compression", "1"));
        log.info("Starting CheckoutApplication v" + release + " using Java " + System.getProperty("java.version")
                + " with PID " + ProcessHandle.current().pid());
        log.info("JVM arguments: " + ManagementFactory.getRuntimeMXBean().getInputArguments().stream()
                .filter(flag -> flag.startsWith("-X") && !flag.startsWith("-Xlog")).toList());

        String timeout = configuration.text("server.servlet.session.timeout", "30m");
        SessionStore sessions = new SessionStore((long) (Configuration.durationMillis(timeout) / compression));
        ProductCache products = new ProductCache(configuration.number("cache.products.maximum-size", 500));
        WorkerPool workers = new WorkerPool(configuration.number("server.tomcat.threads.max", 20), guard);
        ConnectionPool connections = new ConnectionPool(
                configuration.number("spring.datasource.hikari.maximum-pool-size", 10),
                configuration.number("spring.datasource.hikari.connection-timeout", 3000));
        Log.of(SessionStore.class).info("Session timeout is " + timeout);
        Log.of(ProductCache.class).info("Cache 'products' holds at most " + products.maximumSize() + " entries");
        Log.of(ConnectionPool.class).info("HikariPool-1 - Start completed, maximum pool size " + connections.maximum());

        RequestHandler handler = new RequestHandler(release, sessions, products, connections, workers, guard);
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 200);
        server.setExecutor(workers);
        server.createContext("/", handler);

        ManagementBeans.register(sessions, workers, connections);
        MetricsPage page = new MetricsPage(handler.requests(), sessions, products, connections, workers);
        HttpServer management = HttpServer.create(new InetSocketAddress("127.0.0.1", managementPort), 20);
        management.setExecutor(Executors.newFixedThreadPool(2, task -> daemon(task, "management")));
        management.createContext("/metrics", exchange -> page.write(exchange));

        server.start();
        management.start();
        double readySeconds = (System.currentTimeMillis() - startedMillis) / 1000.0;
        page.ready(readySeconds);
        log.info("Checkout started on port " + port + " (http) with context path '/'");
        log.info(String.format("Started CheckoutApplication in %.3f seconds", readySeconds));

        Runtime.getRuntime().addShutdownHook(new Thread(
                () -> log.info("Commencing graceful shutdown. Waiting for active requests to complete"), "SpringShutdown"));
        // A laboratory that was killed must not leave a service behind for ever.
        Thread.sleep(1000L * Long.getLong("lab.lifetime.seconds", 1800));
        Runtime.getRuntime().halt(0);
    }

    static Thread daemon(Runnable task, String name) {
        Thread thread = new Thread(task, name);
        thread.setDaemon(true);
        return thread;
    }
}
