package org.example.shop;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ThreadLocalRandom;

/** Routes requests, answers them, and counts them under the URI templates that Spring would use. */
final class RequestHandler implements HttpHandler {
    private record Answer(String uri, int status, String body) {}

    private static final Log LOG = Log.of(RequestHandler.class);
    private static final long POLL_MILLIS = 60_000;

    private final RequestMetrics requests = new RequestMetrics();
    private final SessionStore sessions;
    private final ProductCache products;
    private final ConnectionPool connections;
    private final WorkerPool workers;
    private final OutOfMemoryGuard guard;
    private final Recommendations recommendations;
    private final DiscountRules discounts;
    private final ReceiptDownloads receipts = new ReceiptDownloads();

    RequestHandler(Release release, SessionStore sessions, ProductCache products, ConnectionPool connections,
            WorkerPool workers, OutOfMemoryGuard guard) throws IOException {
        this.sessions = sessions;
        this.products = products;
        this.connections = connections;
        this.workers = workers;
        this.guard = guard;
        this.recommendations = new Recommendations(release);
        this.discounts = new DiscountRules(release);
    }

    RequestMetrics requests() {
        return requests;
    }

    @Override
    public void handle(HttpExchange exchange) {
        long begun = System.nanoTime();
        String path = exchange.getRequestURI().getPath();
        Answer answer;
        try {
            answer = route(path);
        } catch (OutOfMemoryError error) {
            answer = new Answer(template(path), 500, "{\"status\":500}");
            guard.failed("Request " + exchange.getRequestMethod() + " " + path
                    + " failed: Handler dispatch failed: " + error, error);
        } catch (ConnectionPool.TimeoutException error) {
            answer = new Answer(template(path), 503, "{\"status\":503}");
            LOG.warn("Request " + exchange.getRequestMethod() + " " + path + " failed: " + error.getMessage());
        } catch (Exception error) {
            answer = new Answer(template(path), 500, "{\"status\":500}");
            LOG.error("Request " + exchange.getRequestMethod() + " " + path + " failed", error);
        }
        try {
            requests.count(exchange.getRequestMethod(), answer.uri(), answer.status(), System.nanoTime() - begun);
            reply(exchange, answer);
        } catch (OutOfMemoryError error) {
            guard.failed("Writing the answer to " + path + " failed", error);
        }
    }

    private Answer route(String path) throws Exception {
        String[] parts = path.split("/");
        return switch (template(path)) {
            case "/api/sessions" -> new Answer("/api/sessions", 201, createSession());
            case "/api/sessions/{id}/items" -> addItem(parts[3]);
            case "/api/products/{id}" -> product(Integer.parseInt(parts[3]));
            case "/api/orders/events" -> pollOrders();
            case "/api/receipts/{id}" -> new Answer("/api/receipts/{id}", 200, "{\"downloads\":" + receipts.start() + "}");
            default -> new Answer("/**", 404, "{\"status\":404}");
        };
    }

    private static String template(String path) {
        String[] parts = path.split("/");
        if (parts.length == 3 && path.equals("/api/sessions") || path.equals("/api/orders/events")) {
            return path;
        }
        if (parts.length == 5 && parts[2].equals("sessions")) {
            return "/api/sessions/{id}/items";
        }
        if (parts.length == 4 && (parts[2].equals("products") || parts[2].equals("receipts"))) {
            return "/api/" + parts[2] + "/{id}";
        }
        return "/**";
    }

    private String createSession() throws Exception {
        garbage();
        connections.query();
        return "{\"id\":\"" + sessions.create() + "\"}";
    }

    private Answer addItem(String id) throws Exception {
        garbage();
        connections.query();
        String uri = "/api/sessions/{id}/items";
        if (!sessions.touch(id)) {
            return new Answer(uri, 404, "{\"status\":404}");
        }
        if (ThreadLocalRandom.current().nextInt(6) == 0) {
            LOG.info("Order placed for session " + id + ", total " + ThreadLocalRandom.current().nextInt(5, 400) + " EUR");
        }
        return new Answer(uri, 200, "{\"status\":\"added\"}");
    }

    private Answer product(int product) throws Exception {
        garbage();
        byte[] page = products.get(product);
        if (page == null) {
            connections.query();
            page = ProductCache.load();
            products.put(product, page);
            if (ThreadLocalRandom.current().nextInt(10) == 0) {
                LOG.info("Loaded product " + product + " from the catalogue, " + page.length + " bytes");
            }
        }
        String body = "{\"id\":" + product + ",\"bytes\":" + page.length + ",\"discount\":" + discounts.percentFor(product)
                + ",\"panel\":" + recommendations.render(product) + "}";
        return new Answer("/api/products/{id}", 200, body);
    }

    /** Hold the request until an order changes. A quarter of the threads is kept for other work. */
    private Answer pollOrders() throws InterruptedException {
        if (workers.getActiveCount() > workers.getMaximumPoolSize() * 3 / 4) {
            LOG.warn("Refusing to wait for order events: " + workers.getActiveCount() + " of "
                    + workers.getMaximumPoolSize() + " request threads are busy");
            return new Answer("/api/orders/events", 503, "{\"status\":503}");
        }
        Thread.sleep(POLL_MILLIS);
        return new Answer("/api/orders/events", 200, "{\"events\":[]}");
    }

    /** What a framework leaves behind with each request: buffers, parsed bodies, strings. */
    private static int garbage() {
        int bytes = 0;
        for (int piece = ThreadLocalRandom.current().nextInt(10, 30); piece > 0; piece--) {
            bytes += new byte[4096].length;
        }
        return bytes;
    }

    private static void reply(HttpExchange exchange, Answer answer) {
        try (exchange) {
            byte[] body = answer.body().getBytes(StandardCharsets.UTF_8);
            exchange.getResponseHeaders().set("Content-Type", "application/json");
            exchange.sendResponseHeaders(answer.status(), body.length);
            exchange.getResponseBody().write(body);
        } catch (IOException gone) {
            LOG.debug("Client went away: " + gone.getMessage());
        }
    }
}
