module example.com/siteidentity

go 1.19
